//! Field selectors: `metadata.name=web,status.phase!=Failed`.

use super::Error;
use crate::record::{Header, Record};

/// A field selector: terms that all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: Box<str>,
    value: Box<str>,
    equal: bool,
}

impl Fields {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Reads `a=b,c!=d`; `\\`, `\,` and `\=` escape.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts = split(text).into_iter().filter(|part| !part.is_empty());
        let mut terms = parts.map(|part| term(part, text)).collect::<Result<Vec<_>, _>>()?;
        // Nothing equals nothing.
        terms.retain(|term| !(term.equal && term.field.is_empty() && term.value.is_empty()));
        Ok(Self { terms })
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Each field named, for checking against what the kind supports.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| &*term.field)
    }

    /// The value that `field` must equal, if a term says so (`metadata.name` turns
    /// a list into a look-up).
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && &*term.field == field).map(|term| &*term.value)
    }

    /// Whether a record is selected. `selectable` are the kind's, in the order of
    /// [`Header::fields`].
    pub fn matches<S: AsRef<str>>(&self, record: &Record, selectable: &[S]) -> bool {
        self.matches_header(record.key.namespace(), record.key.name(), record.header(), selectable)
    }

    /// As [`Fields::matches`], from the parts.
    pub fn matches_header<S: AsRef<str>>(
        &self,
        namespace: &str,
        name: &str,
        header: &Header,
        selectable: &[S],
    ) -> bool {
        self.terms.iter().all(|term| {
            let value = match &*term.field {
                "metadata.name" => name,
                "metadata.namespace" => namespace,
                field => match selectable.iter().position(|s| s.as_ref() == field) {
                    Some(at) => header.fields.get(at).map_or("", |value| value),
                    None => "",
                },
            };
            (value == &*term.value) == term.equal
        })
    }
}

/// The terms between unescaped commas.
fn split(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn term(part: &str, whole: &str) -> Result<Term, Error> {
    let operators = |at: usize| ["!=", "==", "="].into_iter().find(|op| part[at..].starts_with(op));
    let found = part.char_indices().find_map(|(at, _)| Some((at, operators(at)?)));
    let Some((at, operator)) = found else {
        return Err(Error(format!("invalid selector: '{whole}'; can't understand '{part}'")));
    };
    let value = unescape(&part[at + operator.len()..])?;
    Ok(Term { field: part[..at].into(), value: value.into(), equal: operator != "!=" })
}

fn unescape(text: &str) -> Result<String, Error> {
    let invalid =
        |sequence: &str| Err(Error(format!("invalid field selector: invalid escape sequence: {sequence}")));
    let mut value = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(letter @ ('\\' | ',' | '=')) => value.push(letter),
                Some(letter) => return invalid(&format!("\\{letter}")),
                None => return invalid("\\"),
            },
            ',' | '=' => {
                let code = u32::from(letter);
                return Err(Error(format!("invalid field selector: unescaped character in value: {code}")));
            }
            letter => value.push(letter),
        }
    }
    Ok(value)
}
