//! The grammar of label selectors in queries, with upstream's error texts.

use super::{Error, Operator, Requirement};
use crate::validation::names;

const BINARY: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Comma,
    Open,
    Close,
    Not,
    In,
    NotIn,
    Equals,
    NotEquals,
    Greater,
    Less,
    Word,
    End,
    Error,
}

/// Reads all requirements, in the order of the text.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, Error> {
    let mut parser = Parser::new(text);
    let mut requirements = Vec::new();
    loop {
        let (token, literal) = parser.peek();
        match token {
            Token::Word | Token::Not => {
                let requirement = parser.requirement();
                let requirement =
                    requirement.map_err(|e| Error(format!("unable to parse requirement: {e}")))?;
                requirements.push(requirement);
                match parser.next() {
                    (Token::End, _) => return Ok(requirements),
                    (Token::Comma, _) => {
                        let (token, literal) = parser.peek();
                        if !matches!(token, Token::Word | Token::Not) {
                            return found(literal, "identifier after ','");
                        }
                    }
                    (_, literal) => return found(literal, "',' or 'end of string'"),
                }
            }
            Token::End => return Ok(requirements),
            _ => return found(literal, "!, identifier, or 'end of string'"),
        }
    }
}

fn found<T>(literal: &str, expected: &str) -> Result<T, Error> {
    Err(Error(format!("found '{literal}', expected: {expected}")))
}

/// Reads one token ahead, so that what follows the first mistake is never looked at.
struct Parser<'a> {
    /// The token that was taken last.
    last: Token,
    ahead: (Token, &'a str),
    /// What comes after `ahead`.
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let (ahead, rest) = token(text);
        Self { last: Token::End, ahead, rest }
    }

    /// The next token where `in` and `notin` are words.
    fn peek(&self) -> (Token, &'a str) {
        let (token, literal) = self.ahead;
        let token = if matches!(token, Token::In | Token::NotIn) { Token::Word } else { token };
        (token, literal)
    }

    fn next(&mut self) -> (Token, &'a str) {
        let next = self.peek();
        self.take();
        next
    }

    /// Takes the next token as it is.
    fn take(&mut self) -> (Token, &'a str) {
        let taken = self.ahead;
        self.last = taken.0;
        (self.ahead, self.rest) = token(self.rest);
        taken
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let (mut token, mut key) = self.next();
        let not = token == Token::Not;
        if not {
            (token, key) = self.next();
        }
        if token != Token::Word {
            return found(key, "identifier");
        }
        let wrong = names::qualified_name(key);
        if !wrong.is_empty() {
            return Err(Error(format!("<nil>: Invalid value: {key:?}: {}", wrong.join("; "))));
        }
        let bare = not || matches!(self.peek().0, Token::End | Token::Comma);
        let operator = match (not, bare) {
            (true, _) => Operator::DoesNotExist,
            (_, true) => Operator::Exists,
            _ => self.operator()?,
        };
        let mut values = match operator {
            _ if bare => Vec::new(),
            Operator::In | Operator::NotIn if self.set_based() => self.values()?,
            _ => vec![self.value()?],
        };
        values.sort_unstable();
        values.dedup();
        let values = values.into_iter().map(Into::into).collect();
        Requirement { key: key.into(), operator, values }.checked()
    }

    fn operator(&mut self) -> Result<Operator, Error> {
        let (token, literal) = self.take();
        Ok(match token {
            Token::In | Token::Equals => Operator::In,
            Token::NotIn | Token::NotEquals => Operator::NotIn,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return found(literal, BINARY),
        })
    }

    /// Whether the operator just read was `in` or `notin`.
    fn set_based(&self) -> bool {
        matches!(self.last, Token::In | Token::NotIn)
    }

    fn value(&mut self) -> Result<&'a str, Error> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.next() {
            (Token::Word, literal) => Ok(literal),
            (_, literal) => found(literal, "identifier"),
        }
    }

    fn values(&mut self) -> Result<Vec<&'a str>, Error> {
        let (token, literal) = self.next();
        if token != Token::Open {
            return Err(Error(format!("found '{literal}' expected: '('")));
        }
        if self.peek().0 == Token::Close {
            self.take();
            return Ok(vec![""]);
        }
        let (token, literal) = self.peek();
        if !matches!(token, Token::Word | Token::Comma) {
            return found(literal, "',', ')' or identifier");
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                (Token::Word, literal) => {
                    values.push(literal);
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => break,
                        (_, literal) => return found(literal, "',' or ')'"),
                    }
                }
                (Token::Comma, _) => {
                    let next = self.peek().0;
                    if values.is_empty() || matches!(next, Token::Close | Token::Comma) {
                        values.push("");
                    }
                    if next == Token::Close {
                        break;
                    }
                }
                (_, literal) => return found(literal, "',', or identifier"),
            }
        }
        self.take();
        Ok(values)
    }
}

fn special(byte: u8) -> bool {
    b"=!(),><".contains(&byte)
}

/// The first token of a text, and what comes after it.
fn token(text: &str) -> ((Token, &str), &str) {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace());
    let bytes = text.as_bytes();
    let Some(first) = bytes.first() else { return ((Token::End, ""), "") };
    if special(*first) {
        let (token, length) = symbol(bytes);
        return ((token, &text[..length]), &text[length..]);
    }
    let word = |byte: &&u8| !special(**byte) && !byte.is_ascii_whitespace();
    let (literal, rest) = text.split_at(bytes.iter().take_while(word).count());
    let token = match literal {
        "in" => Token::In,
        "notin" => Token::NotIn,
        _ => Token::Word,
    };
    ((token, literal), rest)
}

fn symbol(bytes: &[u8]) -> (Token, usize) {
    match (bytes[0], bytes.get(1)) {
        (b'=', Some(b'=')) => (Token::Equals, 2),
        (b'=', _) => (Token::Equals, 1),
        (b'!', Some(b'=')) => (Token::NotEquals, 2),
        (b'!', _) => (Token::Not, 1),
        (b'(', _) => (Token::Open, 1),
        (b')', _) => (Token::Close, 1),
        (b',', _) => (Token::Comma, 1),
        (b'>', _) => (Token::Greater, 1),
        (b'<', _) => (Token::Less, 1),
        _ => (Token::Error, 1),
    }
}

#[cfg(test)]
mod tests {
    use crate::selector::{Fields, Labels};
    use serde_json::json;

    fn check(selector: &str, labels: &str, expect: bool) {
        let labels: Vec<(&str, &str)> = labels.split(',').filter_map(|label| label.split_once('=')).collect();
        let look_up = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        assert_eq!(Labels::parse(selector).unwrap().matches_with(look_up), expect, "{selector}");
    }

    fn refuses(selector: &str, expect: &str) {
        assert_eq!(Labels::parse(selector).unwrap_err().to_string(), expect, "{selector}");
    }

    #[test]
    fn selects_as_upstream_does() {
        for (selector, labels, expect) in [
            ("", "x=y", true),
            ("x=y", "x=y", true),
            ("x==y,z=w", "x=y,z=w", true),
            ("x=y,z=w", "x=y", false),
            ("x!=y", "x=z", true),
            ("x!=y", "", true),
            ("x", "x=y", true),
            ("!x", "x=y", false),
            ("!x", "z=y", true),
            ("x in (a,b)", "x=b", true),
            ("x in (a,,b)", "x=", true),
            ("x notin (a,b)", "x=c", true),
            ("x notin (a)", "y=a", true),
            ("x in ()", "x=", true),
            ("x>1", "x=2", true),
            ("x>1", "x=a", false),
            ("x<1,y", "x=0,y=1", true),
            ("x=", "x=", true),
            ("x=,y", "x=,y=1", true),
            ("in in (in,notin)", "in=notin", true),
            ("a.b/c=d", "a.b/c=d", true),
        ] {
            check(selector, labels, expect);
        }
    }

    #[test]
    fn words_errors_as_upstream_does() {
        refuses(
            "x=a||y=b",
            "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        );
        refuses(",x", "found ',', expected: !, identifier, or 'end of string'");
        refuses("x,", "found '', expected: identifier after ','");
        refuses("x a", "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt");
        refuses("x in a", "unable to parse requirement: found 'a' expected: '('");
        refuses("x in (a", "unable to parse requirement: found '', expected: ',' or ')'");
        refuses(
            "x>a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
        );
        assert!(Labels::parse("-x=1").unwrap_err().to_string().starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"-x\": name part must consist of"
        ));
    }

    #[test]
    fn reads_objects_and_writes_strings() {
        let selector = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["e", "d"]}, {"key": "f", "operator": "Exists"},
            {"key": "g", "operator": "NotIn", "values": ["h"]}, {"key": "i", "operator": "DoesNotExist"}]});
        let labels = Labels::from_value(&selector).unwrap();
        assert_eq!(labels.to_string(), "a=b,c in (d,e),f,g!=h,!i");
        assert_eq!(Labels::parse(&labels.to_string()), Ok(labels.clone()));
        assert!(labels.matches_value(&json!({"a": "b", "c": "d", "f": ""})));
        assert!(!Labels::from_value(&json!(null)).unwrap().matches_value(&json!({})));
        assert!(Labels::from_value(&json!({})).unwrap().is_everything());
        let path = crate::field::Path::ROOT.child("spec");
        let wrong =
            json!({"matchExpressions": [{"key": "c", "operator": "In"}, {"key": "c", "operator": "Has"}]});
        let errors: Vec<String> =
            super::super::validate(&wrong, &path).iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "spec.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.matchExpressions[1].operator: Invalid value: \"Has\": not a valid selector operator"
            ]
        );
    }

    #[test]
    fn field_selectors() {
        let fields = Fields::parse(r"metadata.name=a\,b,spec.nodeName!=,status.phase==Running,").unwrap();
        assert_eq!(fields.exact("metadata.name"), Some("a,b"));
        let header = crate::Header { fields: ["n1".into(), "Running".into()].into(), ..Default::default() };
        let selectable = ["spec.nodeName", "status.phase"];
        assert!(fields.matches_header("ns", "a,b", &header, &selectable));
        assert!(!fields.matches_header("ns", "a", &header, &selectable));
        let refused = |text: &str| Fields::parse(text).unwrap_err().to_string();
        assert_eq!(refused("a"), "invalid selector: 'a'; can't understand 'a'");
        assert_eq!(refused(r"a=\x"), r"invalid field selector: invalid escape sequence: \x");
        assert_eq!(refused("a=b=c"), "invalid field selector: unescaped character in value: 61");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[a-z=!(),<>\\\\ é]{0,30}") {
            let _ = (Labels::parse(&text), Fields::parse(&text));
        }
    }
}
