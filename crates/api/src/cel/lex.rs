//! Tokens of the Common Expression Language, the longest first, as its published grammar
//! has them. What is no token is noted and left out.

use super::Issues;

/// The kinds of tokens, in the grammar's order, in which sets of them are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    LeftBracket,
    RightBracket,
    LeftBrace,
    RightBrace,
    LeftParen,
    RightParen,
    Dot,
    Comma,
    Minus,
    Not,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Identifier,
    Escaped,
    End,
}

/// Kinds with their texts; words last, then those that have none of their own.
const SHOWN: [(Kind, &str); 36] = [
    (Kind::Equals, "'=='"),
    (Kind::NotEquals, "'!='"),
    (Kind::In, "'in'"),
    (Kind::Less, "'<'"),
    (Kind::LessEquals, "'<='"),
    (Kind::GreaterEquals, "'>='"),
    (Kind::Greater, "'>'"),
    (Kind::And, "'&&'"),
    (Kind::Or, "'||'"),
    (Kind::LeftBracket, "'['"),
    (Kind::RightBracket, "']'"),
    (Kind::LeftBrace, "'{'"),
    (Kind::RightBrace, "'}'"),
    (Kind::LeftParen, "'('"),
    (Kind::RightParen, "')'"),
    (Kind::Dot, "'.'"),
    (Kind::Comma, "','"),
    (Kind::Minus, "'-'"),
    (Kind::Not, "'!'"),
    (Kind::Question, "'?'"),
    (Kind::Colon, "':'"),
    (Kind::Plus, "'+'"),
    (Kind::Star, "'*'"),
    (Kind::Slash, "'/'"),
    (Kind::Percent, "'%'"),
    (Kind::True, "'true'"),
    (Kind::False, "'false'"),
    (Kind::Null, "'null'"),
    (Kind::Float, "NUM_FLOAT"),
    (Kind::Int, "NUM_INT"),
    (Kind::Uint, "NUM_UINT"),
    (Kind::String, "STRING"),
    (Kind::Bytes, "BYTES"),
    (Kind::Identifier, "IDENTIFIER"),
    (Kind::Escaped, "ESC_IDENTIFIER"),
    (Kind::End, "<EOF>"),
];

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(u64);

/// A piece of the source.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// As it is written; empty at the end.
    pub text: &'a str,
    /// Byte offset.
    pub at: usize,
}

// === impl Set ===

impl Set {
    /// The set of the kinds.
    pub const fn of(kinds: &[Kind]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < kinds.len() {
            bits |= 1 << kinds[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    /// Those of both.
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether a kind is among them.
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The end comes before all others.
        let (last, others) = SHOWN.split_at(35);
        let names: Vec<&str> =
            others.iter().chain(last).filter(|(kind, _)| self.has(*kind)).map(|(_, text)| *text).collect();
        match names[..] {
            [one] => f.write_str(one),
            _ => write!(f, "{{{}}}", names.join(", ")),
        }
    }
}

/// All tokens, the end last.
pub fn tokens<'a>(source: &'a str, issues: &mut Issues) -> Vec<Token<'a>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        if matches!(first, '\t' | ' ' | '\r' | '\n' | '\u{c}') {
            at += 1;
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some((kind, length)) = token(rest) {
            found.push(Token { kind, text: &rest[..length], at });
            at += length;
        } else {
            let length = unknown(rest);
            issues.syntax(at, format!("token recognition error at: '{}'", &rest[..length]));
            at += length;
        }
    }
    found.push(Token { kind: Kind::End, text: "", at: source.len() });
    found
}

/// A text of a message: on one line.
pub fn escaped(text: &str) -> String {
    text.replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

fn token(text: &str) -> Option<(Kind, usize)> {
    if let Some(found) = quoted(text) {
        return Some(found);
    }
    let bytes = text.as_bytes();
    let run = |from: usize, fits: fn(&u8) -> bool| bytes[from..].iter().take_while(|byte| fits(byte)).count();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match bytes[0] {
        b'0'..=b'9' => return Some(number(text)),
        b'.' if bytes.get(1).is_some_and(u8::is_ascii_digit) => return Some(number(text)),
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
            let length = run(0, word);
            let kind = match &text[..length] {
                "in" => Kind::In,
                "true" => Kind::True,
                "false" => Kind::False,
                "null" => Kind::Null,
                _ => Kind::Identifier,
            };
            return Some((kind, length));
        }
        b'`' => {
            let length = run(1, |byte| byte.is_ascii_alphanumeric() || b"_.-/ ".contains(byte));
            let closed = bytes.get(length + 1) == Some(&b'`');
            return (length > 0 && closed).then_some((Kind::Escaped, length + 2));
        }
        _ => {}
    }
    let sign = |(kind, shown): &(Kind, &str)| {
        let sign = shown.trim_matches('\'');
        text.starts_with(sign).then_some((*kind, sign.len()))
    };
    SHOWN[..25].iter().filter_map(sign).max_by_key(|(_, length)| *length)
}

fn number(text: &str) -> (Kind, usize) {
    let bytes = text.as_bytes();
    let digits =
        |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
    let unsigned = |length: usize| matches!(bytes.get(length), Some(b'u' | b'U'));
    let whole = |length: usize| match unsigned(length) {
        true => (Kind::Uint, length + 1),
        false => (Kind::Int, length),
    };
    if text.starts_with("0x") {
        let hex = bytes[2..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        return if hex > 0 { whole(2 + hex) } else { (Kind::Int, 1) };
    }
    let mut length = digits(0);
    let fraction = if bytes.get(length) == Some(&b'.') { digits(length + 1) } else { 0 };
    let mut float = fraction > 0;
    if float {
        length += 1 + fraction;
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            (float, length) = (true, length + 1 + sign + exponent);
        }
    }
    if float { (Kind::Float, length) } else { whole(length) }
}

/// A string or bytes, which end on the line unless there are three quotes.
fn quoted(text: &str) -> Option<(Kind, usize)> {
    let bytes = matches!(text.as_bytes()[0], b'b' | b'B');
    let kind = if bytes { Kind::Bytes } else { Kind::String };
    let start = usize::from(bytes);
    let raw = matches!(text.as_bytes().get(start), Some(b'r' | b'R'));
    let start = start + usize::from(raw);
    let (rest, quote) = (&text[start..], *text.as_bytes().get(start)?);
    if !matches!(quote, b'"' | b'\'') {
        return None;
    }
    let triple = if quote == b'"' { "\"\"\"" } else { "'''" };
    if rest.starts_with(triple)
        && let (length, true) = body(rest, 3, triple, raw)
    {
        return Some((kind, start + length));
    }
    let (length, closed) = body(rest, 1, &triple[..1], raw);
    closed.then_some((kind, start + length))
}

/// How far a string goes that begins after `from` bytes, and whether it is closed there.
fn body(text: &str, from: usize, end: &str, raw: bool) -> (usize, bool) {
    let mut at = from;
    while let Some(letter) = text[at..].chars().next() {
        if text[at..].starts_with(end) {
            return (at + end.len(), true);
        }
        if end.len() == 1 && matches!(letter, '\n' | '\r') {
            return (at + 1, false);
        }
        let (length, fits) = match letter {
            '\\' if !raw => escape(&text[at..]),
            _ => (letter.len_utf8(), true),
        };
        at += length;
        if !fits {
            return (at, false);
        }
    }
    (text.len(), false)
}

/// The length of an escape, and whether it is one; else up to what makes it none.
fn escape(text: &str) -> (usize, bool) {
    let (count, fits): (usize, fn(&char) -> bool) = match text.chars().nth(1) {
        Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => return (2, true),
        Some('x' | 'X') => (2, char::is_ascii_hexdigit),
        Some('u') => (4, char::is_ascii_hexdigit),
        Some('U') => (8, char::is_ascii_hexdigit),
        Some('0'..='3') => (2, |digit| matches!(digit, '0'..='7')),
        other => return (1 + other.map_or(0, char::len_utf8), false),
    };
    let digits = text[2..].chars().take(count).take_while(fits).count();
    if digits == count {
        return (2 + count, true);
    }
    (2 + digits + text[2 + digits..].chars().next().map_or(0, char::len_utf8), false)
}

/// How much of a text that begins with no token is passed over: up to the character at
/// which it was clear.
fn unknown(text: &str) -> usize {
    let next = |at: usize| at + text[at..].chars().next().map_or(0, char::len_utf8);
    match text.as_bytes()[0] {
        b'&' | b'|' | b'=' => next(1),
        b'`' => {
            let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-/ ".contains(byte);
            next(1 + text.as_bytes()[1..].iter().take_while(|byte| inside(byte)).count())
        }
        quote @ (b'"' | b'\'') => body(text, 1, if quote == b'"' { "\"" } else { "'" }, false).0,
        _ => next(0),
    }
}
