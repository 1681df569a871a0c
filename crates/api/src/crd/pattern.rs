//! Patterns in the syntax of Go's `regexp` package, as the linear-time `regex` crate
//! takes them.
//!
//! The two differ in what classes mean (Go's `\d`, `\w`, `\s` and `\b` are ASCII), in
//! what may stand for itself (`{`, `[` within a class, escaped punctuation), in `\Q…\E`,
//! octal escapes, and in set operations that only one of them has. Errors are worded as
//! Go words them where it is one that people make.

use std::iter::Peekable;
use std::str::CharIndices;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take.
const SIZE: usize = 1 << 20;
/// Repetitions that Go allows.
const REPEAT: u32 = 1000;

/// Compiles a pattern.
///
/// # Errors
/// What Go's compiler says, such as ``error parsing regexp: missing closing ]: `[a` ``.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern).map_err(|error| format!("error parsing regexp: {error}"))?;
    RegexBuilder::new(&translated).size_limit(SIZE).dfa_size_limit(SIZE).build().map_err(
        |error| match error {
            regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".to_owned(),
            other => format!("error parsing regexp: {}", other.to_string().replace('\n', " ")),
        },
    )
}

/// A pattern in the other syntax.
fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator {
        text: pattern,
        letters: pattern.char_indices().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        groups: Vec::new(),
        repeatable: Repeatable::Nothing,
    };
    translator.run()?;
    Ok(translator.out)
}

/// What a repetition would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeatable {
    Nothing,
    Atom,
    /// A repetition that began there.
    Repetition(usize),
}

struct Translator<'a> {
    text: &'a str,
    letters: Peekable<CharIndices<'a>>,
    out: String,
    groups: Vec<usize>,
    repeatable: Repeatable,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some((at, letter)) = self.letters.next() {
            match letter {
                '(' => self.group(at)?,
                ')' => {
                    self.groups.pop().ok_or_else(|| format!("unexpected ): `{}`", self.text))?;
                    self.atom(")");
                }
                '|' => {
                    self.out.push('|');
                    self.repeatable = Repeatable::Nothing;
                }
                '[' => self.class(at)?,
                '*' | '+' | '?' => self.repeat(at, letter.encode_utf8(&mut [0; 4]))?,
                '{' => match self.counted(at)? {
                    Some(count) => self.repeat(at, &count)?,
                    None => self.atom("\\{"),
                },
                '\\' => self.escape(at)?,
                '^' | '$' | '.' => self.atom(letter.encode_utf8(&mut [0; 4])),
                letter => self.literal(letter),
            }
        }
        match self.groups.first() {
            Some(_) => Err(format!("missing closing ): `{}`", self.text)),
            None => Ok(()),
        }
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.repeatable = Repeatable::Atom;
    }

    fn literal(&mut self, letter: char) {
        self.out.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
        self.repeatable = Repeatable::Atom;
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.letters.next_if(|(_, letter)| *letter == wanted).is_some()
    }

    /// Byte position of the next letter.
    fn position(&mut self) -> usize {
        self.letters.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn skip_to(&mut self, position: usize) {
        while self.letters.next_if(|(at, _)| *at < position).is_some() {}
    }

    /// `(`, `(?:`, `(?P<name>`, `(?i)`, `(?i:`.
    fn group(&mut self, at: usize) -> Result<(), String> {
        let rest = &self.text[at..];
        self.repeatable = Repeatable::Nothing;
        if !rest.starts_with("(?") {
            self.groups.push(at);
            self.out.push('(');
            return Ok(());
        }
        for open in ["(?P<", "(?<"] {
            let Some(name) = rest.strip_prefix(open) else { continue };
            let end = name.find('>').ok_or_else(|| format!("invalid named capture: `{rest}`"))?;
            let valid = end > 0 && name[..end].chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !valid {
                return Err(format!("invalid named capture: `{}`", &rest[..open.len() + end + 1]));
            }
            self.skip_to(at + open.len() + end + 1);
            self.groups.push(at);
            // A name may begin with a digit there; here it need not be named at all.
            self.out.push('(');
            return Ok(());
        }
        let flags = &rest[2..];
        let unknown = || format!("invalid or unsupported Perl syntax: `{}`", head(rest, 3));
        let end = flags.find([':', ')']).ok_or_else(unknown)?;
        let known = flags[..end].trim_start_matches(['i', 'm', 's', 'U']);
        let known = known.strip_prefix('-').unwrap_or(known).trim_start_matches(['i', 'm', 's', 'U']);
        if !known.is_empty() || flags[..end].ends_with('-') {
            let bad = rest.len() - rest[2..].len() + end - known.len()
                + known.chars().next().map_or(1, char::len_utf8);
            return Err(format!("invalid or unsupported Perl syntax: `{}`", &rest[..bad.min(rest.len())]));
        }
        if flags[end..].starts_with(':') {
            self.groups.push(at);
        }
        self.out.push_str(&rest[..2 + end + 1]);
        self.skip_to(at + 2 + end + 1);
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,3}`; anything else stands for itself.
    fn counted(&mut self, at: usize) -> Result<Option<String>, String> {
        let rest = &self.text[at..];
        let Some(end) = rest.find('}') else { return Ok(None) };
        let inner = &rest[1..end];
        let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !number(least) || (!most.is_empty() && !number(most)) {
            return Ok(None);
        }
        let bad = || format!("invalid repeat count: `{}`", &rest[..=end]);
        let read = |text: &str| text.parse::<u32>().ok().filter(|count| *count <= REPEAT).ok_or_else(bad);
        let least = read(least)?;
        if !most.is_empty() && read(most)? < least {
            return Err(bad());
        }
        self.skip_to(at + end + 1);
        Ok(Some(rest[..=end].to_owned()))
    }

    fn repeat(&mut self, at: usize, operator: &str) -> Result<(), String> {
        match self.repeatable {
            Repeatable::Nothing => {
                return Err(format!("missing argument to repetition operator: `{operator}`"));
            }
            Repeatable::Repetition(start) => {
                let end = self.position().max(at + operator.len());
                return Err(format!("invalid nested repetition operator: `{}`", &self.text[start..end]));
            }
            Repeatable::Atom => {}
        }
        self.out.push_str(operator);
        if self.next_is('?') {
            self.out.push('?');
        }
        self.repeatable = Repeatable::Repetition(at);
        Ok(())
    }

    /// An escape outside of a class.
    fn escape(&mut self, at: usize) -> Result<(), String> {
        let Some(&(_, letter)) = self.letters.peek() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        match letter {
            'Q' => {
                self.letters.next();
                let rest = &self.text[at + 2..];
                let quoted = rest.split("\\E").next().unwrap_or_default();
                self.skip_to((at + 2 + quoted.len() + 2).min(self.text.len()));
                quoted.chars().for_each(|letter| self.literal(letter));
            }
            'A' | 'z' => self.take_escape(letter),
            'b' | 'B' => {
                self.letters.next();
                self.atom(&format!("(?-u:\\{letter})"));
            }
            'C' => {
                self.letters.next();
                self.atom("(?s:.)");
            }
            _ => match self.escaped(at)? {
                Escaped::Letter(letter) => self.literal(letter),
                Escaped::Class(class) => self.atom(&format!("[{class}]")),
                Escaped::Property(property) => self.atom(&property),
            },
        }
        Ok(())
    }

    fn take_escape(&mut self, letter: char) {
        self.letters.next();
        self.atom(&format!("\\{letter}"));
    }

    /// What an escape stands for, in a class or outside.
    fn escaped(&mut self, at: usize) -> Result<Escaped, String> {
        let Some((_, letter)) = self.letters.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        let invalid = |end: usize| format!("invalid escape sequence: `{}`", &self.text[at..end]);
        Ok(match letter {
            'd' => Escaped::Class("0-9"),
            'D' => Escaped::Class("^0-9"),
            'w' => Escaped::Class("0-9A-Za-z_"),
            'W' => Escaped::Class("^0-9A-Za-z_"),
            's' => Escaped::Class("\\t\\n\\x0C\\r "),
            'S' => Escaped::Class("^\\t\\n\\x0C\\r "),
            'a' => Escaped::Letter('\u{7}'),
            'f' => Escaped::Letter('\u{c}'),
            't' => Escaped::Letter('\t'),
            'n' => Escaped::Letter('\n'),
            'r' => Escaped::Letter('\r'),
            'v' => Escaped::Letter('\u{b}'),
            'p' | 'P' => Escaped::Property(self.property(at)?),
            'x' => {
                let rest = &self.text[at + 2..];
                let (digits, length) = match rest.strip_prefix('{') {
                    Some(inner) => {
                        let end = inner.find('}').ok_or_else(|| invalid(self.text.len()))?;
                        (&inner[..end], end + 2)
                    }
                    None => {
                        let length = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                        (&rest[..length], length)
                    }
                };
                let end = at + 2 + length;
                let exact = length != digits.len() || digits.len() == 2;
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| exact);
                let letter = code.and_then(char::from_u32).ok_or_else(|| invalid(end))?;
                self.skip_to(end);
                Escaped::Letter(letter)
            }
            '0'..='7' => {
                let digits: String =
                    self.text[at + 1..].chars().take_while(|c| ('0'..='7').contains(c)).take(3).collect();
                if letter != '0' && digits.len() < 2 {
                    return Err(invalid(at + 2));
                }
                let code = u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32);
                self.skip_to(at + 1 + digits.len());
                Escaped::Letter(code.ok_or_else(|| invalid(at + 2))?)
            }
            letter if letter.is_ascii_punctuation() => Escaped::Letter(letter),
            letter => return Err(invalid(at + 1 + letter.len_utf8())),
        })
    }

    /// `\pL`, `\p{Greek}`, `\P{^Lu}`.
    fn property(&mut self, at: usize) -> Result<String, String> {
        let rest = &self.text[at..];
        let end = match rest[2..].chars().next() {
            Some('{') => {
                rest.find('}').ok_or_else(|| format!("invalid character class range: `{rest}`"))? + 1
            }
            Some(letter) => 2 + letter.len_utf8(),
            None => return Err(format!("invalid character class range: `{rest}`")),
        };
        let text = &rest[..end];
        self.skip_to(at + end);
        let name = text[2..].trim_start_matches('{').trim_end_matches('}');
        let negated = text.starts_with("\\P") != name.starts_with('^');
        let name = name.trim_start_matches('^');
        let translated = match name {
            "Any" => (if negated { "[^\\x{0}-\\x{10FFFF}]" } else { "[\\x{0}-\\x{10FFFF}]" }).to_owned(),
            name => format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }),
        };
        let known = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        match regex::Regex::new(&translated).ok().filter(|_| known) {
            Some(_) => Ok(translated),
            None => Err(format!("invalid character class range: `{text}`")),
        }
    }

    /// A class in brackets.
    fn class(&mut self, at: usize) -> Result<(), String> {
        let missing = || format!("missing closing ]: `{}`", &self.text[at..]);
        let mut class = String::from("[");
        if self.next_is('^') {
            class.push('^');
        }
        let mut first = true;
        loop {
            let (here, letter) = self.letters.next().ok_or_else(missing)?;
            if letter == ']' && !first {
                break;
            }
            first = false;
            if letter == '['
                && self.text[here..].starts_with("[:")
                && let Some(end) = self.text[here..].find(":]")
            {
                let name = &self.text[here..here + end + 2];
                self.skip_to(here + end + 2);
                let plain = name[2..].trim_start_matches('^').trim_end_matches(":]");
                const NAMES: [&str; 14] = [
                    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
                    "space", "upper", "word", "xdigit",
                ];
                if !NAMES.contains(&plain) {
                    return Err(format!("invalid character class range: `{name}`"));
                }
                class.push_str(name);
                continue;
            }
            let from = if letter == '\\' { self.escaped(here)? } else { Escaped::Letter(letter) };
            let Escaped::Letter(from) = from else {
                match from {
                    Escaped::Class(inner) => class.push_str(&format!("[{inner}]")),
                    Escaped::Property(property) => class.push_str(&property),
                    Escaped::Letter(_) => {}
                }
                continue;
            };
            push_code(&mut class, from);
            let mut ahead = self.letters.clone();
            let dash = matches!(ahead.next(), Some((_, '-')));
            if dash && !matches!(ahead.peek(), Some((_, ']')) | None) {
                self.letters.next();
                let (there, letter) = self.letters.next().ok_or_else(missing)?;
                let to = if letter == '\\' { self.escaped(there)? } else { Escaped::Letter(letter) };
                let end = self.position();
                match to {
                    Escaped::Letter(to) if to >= from => {
                        class.push('-');
                        push_code(&mut class, to);
                    }
                    _ => return Err(format!("invalid character class range: `{}`", &self.text[here..end])),
                }
            }
        }
        class.push(']');
        self.atom(&class);
        Ok(())
    }
}

/// What an escape stands for.
enum Escaped {
    Letter(char),
    /// The inside of a class.
    Class(&'static str),
    /// A Unicode property, as it is written here.
    Property(String),
}

/// A letter in a class, in a way that means nothing else.
fn push_code(class: &mut String, letter: char) {
    if letter.is_ascii_alphanumeric() {
        class.push(letter);
    } else {
        class.push_str(&format!("\\x{{{:X}}}", letter as u32));
    }
}

fn head(text: &str, letters: usize) -> &str {
    text.char_indices().nth(letters).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_as_go_does() {
        for (pattern, text, expect) in [
            ("^a$", "a", true),
            ("^a$", "a\n", false),
            (r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$", "* * * * */5", true),
            (r"^\d$", "٣", false),
            (r"^\w$", "é", false),
            (r"\bfoo\b", "a foo b", true),
            ("in-tree|out-of-tree", "out-of-tree", true),
            ("a{,2}", "a{,2}", true),
            ("a{", "a{", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            ("^[a&&b]$", "&", true),
            ("^[[]$", "[", true),
            ("^[]a]$", "]", true),
            (r"^[\d\-x]+$", "1-x", true),
            (r"^[^\s]+$", "ab", true),
            (r"^\x41\101$", "AA", true),
            (r"^\p{Greek}$", "λ", true),
            (r"^\pN$", "5", true),
            (r"^\<a\>$", "<a>", true),
            (r"^\/$", "/", true),
            ("(?i)^ABC$", "abc", true),
            ("^(?P<x>a)(?:b)$", "ab", true),
            ("^[[:alpha:]_]$", "x", true),
            ("^#~a b$", "#~a b", true),
            ("^.$", "\n", false),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn says_what_go_says() {
        for (pattern, expect) in [
            ("[a", "missing closing ]: `[a`"),
            ("(a", "missing closing ): `(a`"),
            ("a)", "unexpected ): `a)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            (r"\y", "invalid escape sequence: `\\y`"),
            (r"\", "trailing backslash at end of expression: ``"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
            (r"\p{Nothing}", "invalid character class range: `\\p{Nothing}`"),
        ] {
            assert_eq!(compile(pattern).unwrap_err(), format!("error parsing regexp: {expect}"), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_is_too_much(pattern in r#"[\\\[\](){}*+?^$|.a-c0-2,:<>&\-xpPQdE]{0,24}"#, text in "[a-c0-2]{0,8}") {
            if let Ok(regex) = compile(&pattern) {
                let _ = regex.is_match(&text);
            }
        }
    }
}
