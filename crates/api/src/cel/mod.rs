//! The Common Expression Language, as far as it is judged when it is stored: whether an
//! expression parses, and whether the names in it are there. What is wrong is said in the
//! words of upstream's compiler.
//!
//! Length, nesting and the number of mistakes are bounded before anything is built. Types
//! are not inferred but of literals, and nothing is evaluated.

mod check;
mod lex;
mod literal;
mod names;
mod parse;

use check::Check;

/// What an expression may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Environment<'a> {
    /// Variables by name, such as `object`.
    pub variables: &'a [&'a str],
    /// Types that may be made, by the part of their name before the first dot.
    pub types: &'a [&'a str],
}

/// A type that a literal tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Nothing is known.
    Any,
    /// `true`, `false`.
    Bool,
    /// `1`.
    Int,
    /// `1u`.
    Uint,
    /// `1.5`.
    Double,
    /// `'a'`.
    String,
    /// `b'a'`.
    Bytes,
    /// `null`.
    Null,
}

impl Type {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "dyn",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Null => "null_type",
        }
    }
}

/// The type of an expression, as far as it is known.
///
/// # Errors
/// It does not compile: what its author did wrong, with the places, on several lines.
pub fn compile(source: &str, environment: &Environment<'_>) -> Result<Type, String> {
    let mut issues = Issues::default();
    let tree = parse::parse(source, &mut issues);
    let result = match tree {
        Some(tree) if issues.found.is_empty() => {
            Check { environment, issues: &mut issues, scope: Vec::new() }.expression(&tree)
        }
        _ => Type::Any,
    };
    if issues.found.is_empty() { Ok(result) } else { Err(issues.shown(source)) }
}

/// Mistakes with their places in bytes; without a place, they come first.
#[derive(Debug, Default)]
struct Issues {
    found: Vec<(Option<usize>, String)>,
}

/// More mistakes than these are only counted.
const MOST: usize = 100;
/// A longer line is not shown.
const LINE: usize = 16_384;

impl Issues {
    fn add(&mut self, at: Option<usize>, message: String) {
        self.found.push((at, message));
    }

    fn syntax(&mut self, at: usize, message: String) {
        self.add(Some(at), format!("Syntax error: {message}"));
    }

    /// All of them in order, each with its line and a mark below the place.
    fn shown(&self, source: &str) -> String {
        let mut order: Vec<&(Option<usize>, String)> = self.found.iter().take(MOST).collect();
        order.sort_by_key(|(at, _)| *at);
        let mut lines: Vec<String> = order.iter().map(|(at, message)| show(source, *at, message)).collect();
        if self.found.len() > MOST {
            lines.push(format!("{} more errors were truncated", self.found.len() - MOST));
        }
        lines.join("\n")
    }
}

fn show(source: &str, at: Option<usize>, message: &str) -> String {
    let Some(at) = at else { return format!("ERROR: <input>:-1:0: {message}") };
    if source.is_empty() {
        return format!("ERROR: <input>:1:0: {message}");
    }
    let before = &source[..at];
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let (line, column) = (before.matches('\n').count() + 1, source[start..at].chars().count());
    let text = source[start..].split('\n').next().unwrap_or_default();
    let mut out = format!("ERROR: <input>:{line}:{}: {message}", column + 1);
    if text.len() <= LINE {
        let mut letters = text.chars();
        let marks: String =
            letters.by_ref().take(column).map(|letter| if letter.is_ascii() { '.' } else { '．' }).collect();
        let end = if letters.next().is_none_or(|letter| letter.is_ascii()) { '^' } else { '＾' };
        out.push_str(&format!("\n | {}\n | {marks}{end}", text.replace('\t', " ")));
    }
    out
}
