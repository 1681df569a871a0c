//! From tokens to a tree. Mistakes are recovered from as the generated parser of upstream
//! does it, so that it is the same ones that are reported: one superfluous token is passed
//! over, one that is missing is thought of, and else the text goes on at the next token
//! that could follow.

use super::lex::{self, Kind, Set, Token, escaped};
use super::{Issues, literal};

/// Longer expressions are refused, in characters.
const LENGTH: usize = 100_000;
/// How many operators may be below each other.
const DEPTH: usize = 250;
/// How deep expressions may nest. (Upstream lets them go to 250, whose stack grows.)
const NESTING: usize = 64;
/// How often a mistake is recovered from.
const RECOVERIES: usize = 30;

const RESERVED: [&str; 18] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "in",
];

const LITERALS: Set = Set::of(&[
    Kind::True,
    Kind::False,
    Kind::Null,
    Kind::Float,
    Kind::Int,
    Kind::Uint,
    Kind::String,
    Kind::Bytes,
]);
const PRIMARY: Set =
    Set::of(&[Kind::LeftBracket, Kind::LeftBrace, Kind::LeftParen, Kind::Dot, Kind::Identifier]).or(LITERALS);
const START: Set = PRIMARY.or(Set::of(&[Kind::Minus, Kind::Not]));
const OPTIONAL_START: Set = START.or(Set::of(&[Kind::Question]));
const FIELD: Set = Set::of(&[Kind::Identifier, Kind::Escaped]);
const OPTIONAL_FIELD: Set = FIELD.or(Set::of(&[Kind::Question]));
const POSTFIX: Set = Set::of(&[Kind::Dot, Kind::LeftBracket]);
const NUMBERS: Set = Set::of(&[Kind::Int, Kind::Float]);
const OPERATORS: [&[Kind]; 5] = [
    &[Kind::Or],
    &[Kind::And],
    &[
        Kind::Equals,
        Kind::NotEquals,
        Kind::In,
        Kind::Less,
        Kind::LessEquals,
        Kind::GreaterEquals,
        Kind::Greater,
    ],
    &[Kind::Plus, Kind::Minus],
    &[Kind::Star, Kind::Slash, Kind::Percent],
];
/// What may follow an operand inside its expression.
const AFTER: Set = Set::of(OPERATORS[0])
    .or(Set::of(OPERATORS[1]))
    .or(Set::of(OPERATORS[2]))
    .or(Set::of(OPERATORS[3]))
    .or(Set::of(OPERATORS[4]))
    .or(Set::of(&[Kind::Question]));

/// A part of an expression.
#[derive(Debug)]
pub struct Tree<'a> {
    /// Where errors about it point to.
    pub at: usize,
    /// What it is.
    pub node: Node<'a>,
    /// How many operators are below each other.
    depth: usize,
}

/// What a part is.
#[derive(Debug)]
pub enum Node<'a> {
    /// A literal.
    Literal(super::Type),
    /// A name, perhaps with a dot before it.
    Name(&'a str),
    /// `a.b`, `a.?b`.
    Select(Box<Tree<'a>>, &'a str),
    /// `f(a)`, `a.f(b)`.
    Call(Option<Box<Tree<'a>>>, &'a str, Vec<Tree<'a>>),
    /// An operator by its sign with its operands; lists, maps and indexes too.
    Operator(&'a str, Vec<Tree<'a>>),
    /// `Type{field: value}`.
    Message(String, Vec<Tree<'a>>),
    /// Something that was not understood.
    Bad,
}

/// Parsing has ended early; why is among the issues.
struct Stopped;

type Parsed<'a> = Result<Tree<'a>, Stopped>;

struct Parser<'a, 'i> {
    source: &'a str,
    tokens: Vec<Token<'a>>,
    at: usize,
    issues: &'i mut Issues,
    recovering: bool,
    recoveries: usize,
    nesting: usize,
    /// What ends the expressions that are being read.
    ends: Vec<Set>,
}

/// Reads an expression; without a tree, or with issues, it is none.
pub fn parse<'a>(source: &'a str, issues: &mut Issues) -> Option<Tree<'a>> {
    let length = source.chars().count();
    if length > LENGTH {
        let message = format!("expression code point size exceeds limit: size: {length}, limit {LENGTH}");
        issues.add(None, message);
        return None;
    }
    let tokens = lex::tokens(source, issues);
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        issues,
        recovering: false,
        recoveries: 0,
        nesting: 0,
        ends: Vec::new(),
    };
    let tree = parser.expression(Set::of(&[Kind::End])).ok()?;
    parser.wanted(Kind::End, Set::default()).ok()?;
    Some(tree)
}

impl<'a> Tree<'a> {
    fn new(at: usize, node: Node<'a>) -> Self {
        let below: &[&Self] = match &node {
            Node::Select(inner, _) => &[inner],
            Node::Call(Some(inner), ..) => &[inner],
            _ => &[],
        };
        let listed: &[Self] = match &node {
            Node::Call(_, _, many) | Node::Operator(_, many) | Node::Message(_, many) => many,
            _ => &[],
        };
        let depth = below.iter().copied().chain(listed).map(|tree| tree.depth + 1).max().unwrap_or(0);
        Self { at, node, depth }
    }
}

impl<'a> Parser<'a, '_> {
    fn token(&self) -> Token<'a> {
        self.tokens[self.at]
    }

    fn kind(&self) -> Kind {
        self.token().kind
    }

    fn after(&self) -> Kind {
        self.tokens[(self.at + 1).min(self.tokens.len() - 1)].kind
    }

    /// Passes over the token, unless it is the end.
    fn skip(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    /// Takes the token, which fits.
    fn take(&mut self) -> Token<'a> {
        let token = self.token();
        self.recovering = false;
        self.skip();
        token
    }

    fn taken(&mut self, kind: Kind) -> bool {
        let fits = self.kind() == kind;
        if fits {
            self.take();
        }
        fits
    }

    fn display(&self) -> String {
        let token = self.token();
        let text = if token.kind == Kind::End { "<EOF>" } else { token.text };
        format!("'{}'", escaped(text))
    }

    fn report(&mut self, message: String) {
        if !self.recovering {
            self.recovering = true;
            self.issues.syntax(self.token().at, message);
        }
    }

    fn attempt(&mut self) -> Result<(), Stopped> {
        self.recoveries += 1;
        if self.recoveries > RECOVERIES {
            let message = format!("error recovery attempt limit exceeded: {RECOVERIES}");
            self.issues.syntax(self.token().at, message);
            return Err(Stopped);
        }
        Ok(())
    }

    /// Goes on where any of the open expressions could.
    fn recover(&mut self) -> Result<(), Stopped> {
        self.attempt()?;
        let ends = self.ends.iter().fold(AFTER, |all, ends| all.or(*ends));
        let set = if self.ends.len() > 1 { ends.or(POSTFIX) } else { ends };
        while self.kind() != Kind::End && !set.has(self.kind()) {
            self.skip();
        }
        Ok(())
    }

    fn mismatched(&mut self, expected: Set) -> Result<(), Stopped> {
        self.report(format!("mismatched input {} expecting {expected}", self.display()));
        self.recover()
    }

    /// Passes over one token when the one after it fits.
    fn deleted(&mut self, expected: Set) -> bool {
        if !expected.has(self.after()) || self.kind() == Kind::End {
            return false;
        }
        self.report(format!("extraneous input {} expecting {expected}", self.display()));
        self.skip();
        self.recovering = false;
        true
    }

    /// Whether a token of the set is next, perhaps after one that is superfluous.
    fn ready(&mut self, expected: Set) -> Result<bool, Stopped> {
        if expected.has(self.kind()) || (!self.recovering && self.deleted(expected)) {
            return Ok(true);
        }
        self.mismatched(expected)?;
        Ok(false)
    }

    /// Takes a token that must be there; `next` may follow it.
    fn wanted(&mut self, kind: Kind, next: Set) -> Result<bool, Stopped> {
        if self.taken(kind) {
            return Ok(true);
        }
        self.attempt()?;
        let expected = Set::of(&[kind]);
        if self.deleted(expected) {
            self.take();
            return Ok(true);
        }
        if next.has(self.kind()) {
            self.report(format!("missing {expected} at {}", self.display()));
            return Ok(true);
        }
        self.mismatched(expected)?;
        Ok(false)
    }

    /// What may follow a bracket that closes.
    fn beyond(&self) -> Set {
        self.ends.last().copied().unwrap_or_default().or(AFTER).or(POSTFIX)
    }

    fn tree(&mut self, at: usize, node: Node<'a>) -> Parsed<'a> {
        let tree = Tree::new(at, node);
        if tree.depth > DEPTH {
            self.issues.add(None, "max recursion depth exceeded".into());
            return Err(Stopped);
        }
        Ok(tree)
    }

    fn expression(&mut self, ends: Set) -> Parsed<'a> {
        self.nesting += 1;
        if self.nesting > NESTING {
            self.issues.add(None, format!("expression recursion limit exceeded: {NESTING}"));
            return Err(Stopped);
        }
        self.ends.push(ends);
        let tree = self.conditional(ends);
        self.ends.pop();
        self.nesting -= 1;
        tree
    }

    fn conditional(&mut self, ends: Set) -> Parsed<'a> {
        let condition = self.binary(0)?;
        if self.kind() != Kind::Question {
            return Ok(condition);
        }
        let at = self.take().at;
        self.ends.push(Set::of(&[Kind::Colon]));
        let yes = self.binary(0);
        self.ends.pop();
        let yes = yes?;
        if !self.wanted(Kind::Colon, START)? {
            return self.tree(at, Node::Bad);
        }
        let no = self.expression(ends)?;
        self.tree(at, Node::Operator("?:", vec![condition, yes, no]))
    }

    /// Operands with operators between that bind at least as `least` does.
    fn binary(&mut self, least: usize) -> Parsed<'a> {
        let mut left = self.unary()?;
        while let Some(level) = OPERATORS.iter().position(|signs| signs.contains(&self.kind()))
            && level >= least
        {
            let operator = self.take();
            let right = self.binary(level + 1)?;
            left = match left.node {
                // Chains of these may be long, and need not be deep.
                Node::Operator(sign, mut parts) if level < 2 && sign == operator.text => {
                    let depth = left.depth.max(right.depth + 1);
                    parts.push(right);
                    Tree { at: left.at, node: Node::Operator(sign, parts), depth }
                }
                node => {
                    let left = Tree { node, ..left };
                    self.tree(operator.at, Node::Operator(operator.text, vec![left, right]))?
                }
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<'a> {
        if !self.ready(START)? {
            let at = self.token().at;
            return self.tree(at, Node::Bad);
        }
        let sign = self.token();
        let negative_number = sign.kind == Kind::Minus && NUMBERS.has(self.after());
        if !matches!(sign.kind, Kind::Minus | Kind::Not) || negative_number {
            return self.member();
        }
        while self.kind() == sign.kind && !(sign.kind == Kind::Minus && NUMBERS.has(self.after())) {
            self.take();
        }
        if !self.operand(sign)? {
            return self.tree(sign.at, Node::Bad);
        }
        let inner = self.member()?;
        self.tree(sign.at, Node::Operator(sign.text, vec![inner]))
    }

    /// Whether something follows that a sign can stand before.
    fn operand(&mut self, sign: Token<'a>) -> Result<bool, Stopped> {
        let fits = PRIMARY.or(Set::of(&[Kind::Minus]));
        if fits.has(self.kind()) {
            return Ok(true);
        }
        if sign.kind == Kind::Minus {
            // What is not a negative number either.
            self.report(format!("no viable alternative at input '{}'", sign.text));
            self.recovering = false;
            self.mismatched(START)?;
        } else {
            self.report(format!("extraneous input {} expecting {START}", self.display()));
            self.recover()?;
        }
        Ok(false)
    }

    fn member(&mut self) -> Parsed<'a> {
        let mut tree = self.primary()?;
        loop {
            let sign = self.token();
            match sign.kind {
                Kind::Dot => tree = self.select(tree, sign)?,
                Kind::LeftBracket => {
                    self.take();
                    if self.ready(OPTIONAL_START)? {
                        self.taken(Kind::Question);
                    }
                    let index = self.expression(Set::of(&[Kind::RightBracket]))?;
                    self.wanted(Kind::RightBracket, self.beyond())?;
                    tree = self.tree(sign.at, Node::Operator("[]", vec![tree, index]))?;
                }
                _ => return Ok(tree),
            }
        }
    }

    fn select(&mut self, tree: Tree<'a>, dot: Token<'a>) -> Parsed<'a> {
        if !OPTIONAL_FIELD.has(self.after()) {
            self.no_field(dot)?;
            return self.tree(dot.at, Node::Bad);
        }
        self.take();
        let optional = self.taken(Kind::Question);
        if !self.ready(FIELD)? {
            return self.tree(dot.at, Node::Bad);
        }
        let field = self.take();
        if field.kind == Kind::Escaped {
            self.issues.add(Some(field.at), "unsupported syntax: '`'".into());
        } else if self.kind() == Kind::LeftParen && !optional {
            let open = self.take().at;
            let arguments = self.arguments()?;
            return self.tree(open, Node::Call(Some(tree.into()), field.text, arguments));
        }
        self.tree(dot.at, Node::Select(tree.into(), field.text))
    }

    /// Nothing that is there can follow the dot.
    fn no_field(&mut self, dot: Token<'a>) -> Result<(), Stopped> {
        self.skip();
        let next = self.token();
        let message = match next.kind {
            Kind::True | Kind::False | Kind::Null => {
                format!("mismatched input '{}' expecting IDENTIFIER", next.text)
            }
            _ => {
                let end = if next.kind == Kind::End { dot.at + 1 } else { next.at + next.text.len() };
                let text = &self.source[dot.at..end];
                format!("no viable alternative at input '{}'", escaped(text))
            }
        };
        self.report(message);
        self.at -= usize::from(next.at > dot.at);
        self.recover()?;
        if self.token().at == dot.at {
            self.skip();
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<Vec<Tree<'a>>, Stopped> {
        let mut found = Vec::new();
        let ends = Set::of(&[Kind::Comma, Kind::RightParen]);
        if self.ready(START.or(Set::of(&[Kind::RightParen])))? && self.kind() != Kind::RightParen {
            found.push(self.expression(ends)?);
            while self.taken(Kind::Comma) {
                found.push(self.expression(ends)?);
            }
        }
        self.wanted(Kind::RightParen, self.beyond())?;
        Ok(found)
    }

    fn primary(&mut self) -> Parsed<'a> {
        let first = self.token();
        match first.kind {
            Kind::LeftParen => {
                self.take();
                let inner = self.expression(Set::of(&[Kind::RightParen]))?;
                self.wanted(Kind::RightParen, self.beyond())?;
                Ok(inner)
            }
            Kind::LeftBracket => {
                self.take();
                let items = self.items(Kind::RightBracket, OPTIONAL_START, |parser, ends| {
                    if parser.ready(OPTIONAL_START)? {
                        parser.taken(Kind::Question);
                    }
                    Ok(vec![parser.expression(ends)?])
                })?;
                self.tree(first.at, Node::Operator("list", items))
            }
            Kind::LeftBrace => {
                self.take();
                let items = self.items(Kind::RightBrace, OPTIONAL_START, |parser, ends| {
                    if parser.ready(OPTIONAL_START)? {
                        parser.taken(Kind::Question);
                    }
                    let key = parser.expression(ends.or(Set::of(&[Kind::Colon])))?;
                    parser.valued(key, ends)
                })?;
                self.tree(first.at, Node::Operator("map", items))
            }
            Kind::Dot | Kind::Identifier => self.name(),
            _ => self.literal(),
        }
    }

    /// `: value` after a key.
    fn valued(&mut self, key: Tree<'a>, ends: Set) -> Result<Vec<Tree<'a>>, Stopped> {
        if !self.wanted(Kind::Colon, START)? {
            return Ok(Vec::new());
        }
        Ok(vec![key, self.expression(ends)?])
    }

    /// Items with commas between, and perhaps one at the end.
    fn items(
        &mut self,
        close: Kind,
        start: Set,
        item: impl Fn(&mut Self, Set) -> Result<Vec<Tree<'a>>, Stopped>,
    ) -> Result<Vec<Tree<'a>>, Stopped> {
        let ends = Set::of(&[Kind::Comma, close]);
        let mut found = Vec::new();
        let any = self.ready(start.or(ends))?;
        if any && start.has(self.kind()) {
            self.ends.push(ends);
            found.extend(item(self, ends)?);
            while self.kind() == Kind::Comma && self.after() != close {
                self.take();
                found.extend(item(self, ends)?);
            }
            self.ends.pop();
            self.ready(ends)?;
        }
        self.taken(Kind::Comma);
        self.wanted(close, self.beyond())?;
        Ok(found)
    }

    fn name(&mut self) -> Parsed<'a> {
        let first = self.token();
        if first.kind == Kind::Dot && self.after() != Kind::Identifier {
            self.no_field(first)?;
            return self.tree(first.at, Node::Bad);
        }
        self.taken(Kind::Dot);
        let name = self.take();
        if let Some((path, brace)) = self.message_name(name) {
            let items = self.items(Kind::RightBrace, OPTIONAL_FIELD, |parser, ends| {
                parser.taken(Kind::Question);
                if !parser.ready(FIELD)? {
                    return Ok(Vec::new());
                }
                let field = parser.take();
                if field.kind == Kind::Escaped {
                    parser.issues.add(Some(field.at), "unsupported syntax: '`'".into());
                }
                let key = parser.tree(field.at, Node::Literal(super::Type::String))?;
                parser.valued(key, ends)
            })?;
            return self.tree(brace, Node::Message(path, items));
        }
        let reserved = RESERVED.contains(&name.text);
        if reserved {
            self.issues.add(Some(first.at), format!("reserved identifier: {}", name.text));
        }
        if self.kind() == Kind::LeftParen {
            let open = self.take().at;
            let arguments = self.arguments()?;
            return self.tree(open, Node::Call(None, name.text, arguments));
        }
        self.tree(name.at, if reserved { Node::Bad } else { Node::Name(name.text) })
    }

    /// The name of a type, when its fields follow, and the place of the brace, which is taken.
    fn message_name(&mut self, first: Token<'a>) -> Option<(String, usize)> {
        let ahead = |at: usize| self.tokens.get(at).map_or(Kind::End, |token| token.kind);
        let mut at = self.at;
        while ahead(at) == Kind::Dot && ahead(at + 1) == Kind::Identifier {
            at += 2;
        }
        if ahead(at) != Kind::LeftBrace {
            return None;
        }
        let rest: String = self.tokens[self.at..at].iter().map(|token| token.text).collect();
        self.at = at;
        Some((format!("{}{rest}", first.text), self.take().at))
    }

    fn literal(&mut self) -> Parsed<'a> {
        let first = self.token();
        let negative = self.taken(Kind::Minus);
        let (ty, wrong) = literal::read(self.take(), negative);
        if let Some(wrong) = wrong {
            self.issues.add(Some(first.at), wrong.into());
        }
        self.tree(first.at, Node::Literal(ty))
    }
}
