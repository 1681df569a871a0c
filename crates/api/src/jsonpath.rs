//! The part of kubectl's JSONPath that printer columns use: fields, indexes, slices,
//! wildcards, descent and filters. Missing keys find nothing.
//!
//! (After `k8s.io/client-go/util/jsonpath`.)

use serde_json::Value;

/// Values that one look-up finds at most.
const MOST: usize = 10_000;
/// Steps of a path.
const STEPS: usize = 64;

/// A parsed path such as `.status.conditions[?(@.type=="Ready")].status`.
#[derive(Debug, Clone, Default)]
pub struct Path(Vec<Step>);

/// A path that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

#[derive(Debug, Clone)]
enum Step {
    Field(Box<str>),
    Wildcard,
    /// `..`: this value and all below it.
    Descent,
    /// From, to, by.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Filter(Operand, Option<(Comparison, Operand)>),
    Union(Vec<Step>),
}

#[derive(Debug, Clone)]
enum Operand {
    Path(Path),
    Value(Value),
}

#[derive(Debug, Clone, Copy)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Path {
    /// Parses a path without its braces.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut parser = Parser { text, at: 0 };
        let path = parser.path()?;
        if parser.at < text.len() {
            return Err(parser.error());
        }
        Ok(path)
    }

    /// What the path finds, in order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.find(value, &mut next);
                next.truncate(MOST);
            }
            found = next;
        }
        found
    }
}

impl Step {
    fn find<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(fields)) => found.extend(fields.get(&**name)),
            (Self::Wildcard, Value::Object(fields)) => found.extend(fields.values()),
            (Self::Wildcard, Value::Array(items)) => found.extend(items),
            (Self::Index(at), Value::Array(items)) => {
                let at = if *at < 0 { at + items.len() as i64 } else { *at };
                found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            (Self::Slice(from, to, by), Value::Array(items)) => {
                let length = items.len() as i64;
                let place = |at: i64| (if at < 0 { at + length } else { at }).clamp(0, length) as usize;
                let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
                if from < to {
                    found.extend(items[from..to].iter().step_by(*by as usize));
                }
            }
            (Self::Descent, value) => {
                found.push(value);
                let inner: Vec<&Value> = match value {
                    Value::Object(fields) => fields.values().collect(),
                    Value::Array(items) => items.iter().collect(),
                    _ => Vec::new(),
                };
                for value in inner {
                    if found.len() < MOST {
                        self.find(value, found);
                    }
                }
            }
            (Self::Filter(left, rest), Value::Array(items)) => {
                found.extend(items.iter().filter(|item| holds(left, rest.as_ref(), item)));
            }
            (Self::Union(steps), value) => steps.iter().for_each(|step| step.find(value, found)),
            _ => {}
        }
    }
}

fn holds(left: &Operand, rest: Option<&(Comparison, Operand)>, item: &Value) -> bool {
    let value = |operand: &Operand| match operand {
        Operand::Path(path) => path.find(item).first().copied().cloned(),
        Operand::Value(value) => Some(value.clone()),
    };
    let Some((comparison, right)) = rest else { return value(left).is_some() };
    let (Some(left), Some(right)) = (value(left), value(right)) else { return false };
    let order = match (&left, &right) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or_default().partial_cmp(&b.as_f64().unwrap_or_default())
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match comparison {
        Comparison::Equal => order.is_some_and(|order| order.is_eq()),
        Comparison::NotEqual => order.is_none_or(|order| order.is_ne()),
        Comparison::Less => order.is_some_and(|order| order.is_lt()),
        Comparison::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Comparison::Greater => order.is_some_and(|order| order.is_gt()),
        Comparison::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self) -> Error {
        Error(format!("unrecognized character in action: {:?}", self.rest().chars().next().unwrap_or(' ')))
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn path(&mut self) -> Result<Path, Error> {
        let mut steps = Vec::new();
        // What stands for the whole.
        let _ = self.take("$") || self.take("@");
        loop {
            if steps.len() > STEPS {
                return Err(Error("path is too long".into()));
            }
            if self.take("..") {
                steps.push(Step::Descent);
                if !self.rest().starts_with('[') {
                    steps.extend(self.field());
                }
            } else if self.take(".") {
                steps.extend(self.field());
            } else if self.take("[") {
                steps.push(self.brackets()?);
            } else if steps.is_empty() {
                match self.field() {
                    Some(step) => steps.push(step),
                    None => return Ok(Path(steps)),
                }
            } else {
                return Ok(Path(steps));
            }
        }
    }

    /// A field's name, with `\` before letters that would end it; none after a lone dot.
    fn field(&mut self) -> Option<Step> {
        let mut name = String::new();
        let mut letters = self.rest().char_indices().peekable();
        let mut end = self.rest().len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => name.extend(letters.next().map(|(_, letter)| letter)),
                '.' | '[' | ']' | ')' | '=' | '!' | '<' | '>' | ' ' | ',' | '{' | '}' | '"' | '\'' | '('
                | '|' => {
                    end = at;
                    break;
                }
                letter => name.push(letter),
            }
        }
        self.at += end;
        match &*name {
            "" => None,
            "*" => Some(Step::Wildcard),
            name => Some(Step::Field(name.into())),
        }
    }

    fn brackets(&mut self) -> Result<Step, Error> {
        self.spaces();
        if self.take("?(") {
            let step = self.filter()?;
            self.spaces();
            return if self.take(")") && self.take("]") { Ok(step) } else { Err(self.unterminated()) };
        }
        let mut steps = Vec::new();
        loop {
            self.spaces();
            steps.push(self.element()?);
            self.spaces();
            if self.take("]") {
                break;
            }
            if !self.take(",") || steps.len() > STEPS {
                return Err(self.unterminated());
            }
        }
        Ok(if steps.len() == 1 { steps.remove(0) } else { Step::Union(steps) })
    }

    fn unterminated(&self) -> Error {
        Error("unterminated array".into())
    }

    fn element(&mut self) -> Result<Step, Error> {
        if let Some(text) = self.quoted()? {
            return Ok(Step::Field(text.into()));
        }
        if self.take("*") {
            return Ok(Step::Wildcard);
        }
        let end = self.rest().find([']', ',']).ok_or_else(|| self.unterminated())?;
        let text = self.rest()[..end].trim();
        self.at += end;
        let number = |text: &str| -> Result<Option<i64>, Error> {
            match text.trim() {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| Error(format!("invalid array index {text}"))),
            }
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            [one] => match number(one)? {
                Some(index) => Ok(Step::Index(index)),
                None => Err(Error("invalid array index ".into())),
            },
            [from, to] => Ok(Step::Slice(number(from)?, number(to)?, 1)),
            [from, to, by] => {
                let by = number(by)?.unwrap_or(1);
                if by < 1 {
                    return Err(Error("step must be > 0".into()));
                }
                Ok(Step::Slice(number(from)?, number(to)?, by))
            }
            _ => Err(Error(format!("invalid array index {text}"))),
        }
    }

    fn spaces(&mut self) {
        while self.take(" ") {}
    }

    /// A text in quotes, if there is one.
    fn quoted(&mut self) -> Result<Option<String>, Error> {
        let Some(quote) = self.rest().chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Ok(None);
        };
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => text.extend(letters.next().map(|(_, letter)| letter)),
                letter if letter == quote => {
                    self.at += at + 1;
                    return Ok(Some(text));
                }
                letter => text.push(letter),
            }
        }
        Err(Error("unterminated quoted string".into()))
    }

    fn filter(&mut self) -> Result<Step, Error> {
        self.spaces();
        let left = self.operand()?;
        self.spaces();
        let comparisons = [
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let Some((_, comparison)) = comparisons.into_iter().find(|(text, _)| self.take(text)) else {
            return Ok(Step::Filter(left, None));
        };
        self.spaces();
        let right = self.operand()?;
        Ok(Step::Filter(left, Some((comparison, right))))
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        if let Some(text) = self.quoted()? {
            return Ok(Operand::Value(text.into()));
        }
        if self.rest().starts_with('@') || self.rest().starts_with('.') {
            // Filters within filters are as deep as the text is long, which is bounded.
            return if self.rest().matches("?(").count() > 4 {
                Err(self.error())
            } else {
                self.path().map(Operand::Path)
            };
        }
        let end = self.rest().find([')', ' ', '=', '!', '<', '>']).unwrap_or(self.rest().len());
        let text = &self.rest()[..end];
        let value =
            serde_json::from_str::<Value>(text).ok().filter(|value| !value.is_object() && !value.is_array());
        let value = value.ok_or_else(|| self.error())?;
        self.at += end;
        Ok(Operand::Value(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn finds_what_kubectl_finds() {
        let object = json!({
            "spec": {"a.b": 1, "n": [1, 2, 3, 4], "m": {"x": {"y": 5}}},
            "status": {"conditions": [{"type": "Ready", "status": "True", "n": 1}, {"type": "Other", "status": "False"}]},
        });
        for (path, expect) in [
            (".spec.n[0]", json!([1])),
            (".spec.n[-1]", json!([4])),
            (".spec.n[1:3]", json!([2, 3])),
            (".spec.n[::2]", json!([1, 3])),
            (".spec.n[*]", json!([1, 2, 3, 4])),
            (".spec.n[0,2]", json!([1, 3])),
            (r".spec.a\.b", json!([1])),
            (".spec['a.b']", json!([1])),
            (".spec.m.*.y", json!([5])),
            ("..y", json!([5])),
            (".spec.missing.x", json!([])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (".status.conditions[?(@.type=='Other')].status", json!(["False"])),
            (".status.conditions[?(@.n)].type", json!(["Ready"])),
            (".status.conditions[?(@.n > 0)].type", json!(["Ready"])),
            (r#".status.conditions[?(@.type != "Ready")].type"#, json!(["Other"])),
            (".", json!([object])),
        ] {
            let found: Vec<Value> = Path::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), expect, "{path}");
        }
        for path in [".a[", ".a[x]", ".a]", ".a[?(@.b==)]", ".a['b]", ".a[::0]"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_is_too_much(text in r#"[.\[\]@?()='"*:,$a-b0-1 <>!\\-]{0,40}"#) {
            let object = json!({"a": [{"b": 0}, {"a": {"b": [1]}}], "b": "x"});
            if let Ok(path) = Path::parse(&text) {
                prop_assert!(path.find(&object).len() <= MOST);
            }
        }
    }
}
