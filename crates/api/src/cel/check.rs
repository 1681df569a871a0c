//! Whether names are there: variables, those that macros bind, functions. Qualified names
//! may be one name, such as `math.greatest`.

use super::parse::{Node, Tree};
use super::{Environment, Issues, Type, names};

/// A walk through an expression that parses.
pub struct Check<'a, 'i> {
    /// What there is.
    pub environment: &'a Environment<'a>,
    /// Where mistakes go.
    pub issues: &'i mut Issues,
    /// Names that macros around bind.
    pub scope: Vec<&'a str>,
}

/// Macros that bind names: how many, and how many arguments they take. (`map` takes more or less.)
const BINDING: [(&str, usize, usize); 11] = [
    ("all", 1, 2),
    ("all", 2, 3),
    ("exists", 1, 2),
    ("exists", 2, 3),
    ("exists_one", 1, 2),
    ("exists_one", 2, 3),
    ("existsOne", 2, 3),
    ("filter", 1, 2),
    ("optMap", 1, 2),
    ("optFlatMap", 1, 2),
    ("sortBy", 1, 2),
];
const TRANSFORMING: [&str; 3] = ["transformList", "transformMap", "transformMapEntry"];

impl<'a> Check<'a, '_> {
    /// Judges an expression, and says what type it is of as far as that is known.
    pub fn expression(&mut self, tree: &Tree<'a>) -> Type {
        match &tree.node {
            Node::Literal(kind) => return *kind,
            Node::Name(name) => {
                let bound = self.scope.contains(name) || self.environment.variables.contains(name);
                if !bound && !names::TYPES.contains(name) {
                    self.undeclared(tree.at, name);
                }
            }
            Node::Select(inner, _) => {
                if !qualified(tree).is_some_and(|name| names::TYPES.contains(&&*name)) {
                    self.expression(inner);
                }
            }
            Node::Operator(sign, parts) => {
                for part in parts {
                    self.expression(part);
                }
                if matches!(*sign, "&&" | "||" | "!" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "in") {
                    return Type::Bool;
                }
            }
            Node::Message(name, fields) => {
                let root = name.trim_start_matches('.').split('.').next().unwrap_or_default();
                if !self.environment.types.contains(&root) && !names::TYPES.contains(&&**name) {
                    self.undeclared(tree.at, name);
                }
                for field in fields {
                    self.expression(field);
                }
            }
            Node::Call(target, name, arguments) => {
                return self.call(tree.at, target.as_deref(), name, arguments);
            }
            Node::Bad => {}
        }
        Type::Any
    }

    fn undeclared(&mut self, at: usize, name: &str) {
        self.issues.add(Some(at), format!("undeclared reference to '{name}' (in container '')"));
    }

    fn call(&mut self, at: usize, target: Option<&Tree<'a>>, name: &'a str, arguments: &[Tree<'a>]) -> Type {
        if name == "has" && target.is_none() && arguments.len() == 1 {
            match &arguments[0].node {
                Node::Select(inner, _) => drop(self.expression(inner)),
                _ => self.issues.add(Some(arguments[0].at), "invalid argument to has() macro".into()),
            }
            return Type::Bool;
        }
        if let Some(target) = target
            && let Some(bound) = binding(name, arguments.len())
        {
            return self.bound(target, name, arguments, bound);
        }
        for argument in arguments {
            self.expression(argument);
        }
        let known = |name: &str| names::FUNCTIONS.binary_search(&name).is_ok();
        if let Some(target) = target {
            if qualified(target).is_some_and(|path| known(&format!("{path}.{name}"))) {
                return Type::Any;
            }
            self.expression(target);
        }
        if !known(name) {
            self.undeclared(at, name);
        }
        Type::Any
    }

    /// A macro that binds the names that its first arguments are.
    fn bound(&mut self, target: &Tree<'a>, name: &str, arguments: &[Tree<'a>], bound: usize) -> Type {
        let depth = self.scope.len();
        self.expression(target);
        let (given, bodies) = arguments.split_at(bound);
        for argument in given {
            match &argument.node {
                Node::Name(name) => self.scope.push(name),
                _ => self.issues.add(Some(argument.at), "argument must be a simple name".into()),
            }
        }
        for body in bodies {
            self.expression(body);
        }
        self.scope.truncate(depth);
        match name {
            "all" | "exists" | "exists_one" | "existsOne" => Type::Bool,
            _ => Type::Any,
        }
    }
}

/// How many names a call of this form binds.
fn binding(name: &str, count: usize) -> Option<usize> {
    match (name, count) {
        ("map", 2 | 3) => Some(1),
        (_, 3 | 4) if TRANSFORMING.contains(&name) => Some(2),
        _ => {
            let found = BINDING.iter().find(|(known, _, counts)| *known == name && *counts == count);
            found.map(|(_, bound, _)| *bound)
        }
    }
}

/// `a.b.c`, when it is no more than that.
fn qualified(tree: &Tree<'_>) -> Option<String> {
    match &tree.node {
        Node::Name(name) => Some((*name).to_owned()),
        Node::Select(inner, field) => Some(format!("{}.{field}", qualified(inner)?)),
        _ => None,
    }
}
