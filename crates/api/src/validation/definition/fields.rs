//! Paths of fields, as rules and selectable fields give them: `.spec.size`, `['a.b']`.

use crate::crd::Props;

const NOT_THERE: &str = "does not refer to a valid field";
const TOO_SHORT: &str = "unexpected end of JSON path";

/// The schema that a path leads to, and the path as errors write it.
///
/// # Errors
/// Why it leads to none, in upstream's words.
pub(super) fn find<'a>(
    given: &str,
    schema: &'a Props,
    with_brackets: bool,
) -> Result<(&'a Props, String), String> {
    let (mut schema, mut path) = (schema, String::new());
    let mut tokens = Tokens(given);
    while let Some(token) = tokens.next() {
        let name = match token {
            "[" if !with_brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let token = tokens.next().ok_or(TOO_SHORT)?;
                let inner = token.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                unescaped(inner)?
            }
            "." => tokens.next().ok_or(TOO_SHORT)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        if schema.properties.is_empty() {
            schema = schema.additional_schema().ok_or(NOT_THERE)?;
            path.push_str(&format!("[{name}]"));
        } else {
            schema = schema.properties.get(&*name).ok_or(NOT_THERE)?;
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&name);
        }
        if token == "[" {
            match tokens.next() {
                Some("]") => {}
                Some(other) => return Err(format!("expected ] but got {other}")),
                None => return Err(TOO_SHORT.to_owned()),
            }
        }
    }
    Ok((schema, path))
}

/// Dots, brackets, quoted strings, and what stands between them.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0;
        let first = rest.chars().next()?;
        let mut before = first;
        let end = if first == '\'' {
            let closes = |(at, letter): (usize, char)| {
                let closes = at > 0 && letter == '\'' && before != '\\';
                before = letter;
                closes.then_some(at + 1)
            };
            rest.char_indices().find_map(closes)
        } else {
            rest.find(['.', '[', ']']).map(|at| at.max(1))
        };
        let (token, rest) = rest.split_at(end.unwrap_or(rest.len()));
        self.0 = rest;
        Some(token)
    }
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let escaped = if letter == '\\' { letters.next() } else { None };
        out.push(match escaped {
            None => letter,
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(quoted @ ('\'' | '\\')) => quoted,
            Some(other) => return Err(format!("invalid string literal: invalid escape char \\{other}")),
        });
    }
    Ok(out)
}
