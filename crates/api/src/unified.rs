//! What differs between two texts, as upstream shows it in messages: a unified diff as
//! Python's `difflib` makes it (which Go's copy follows), so that the same lines are
//! found to be the same. Texts of many lines are only trimmed at both ends: the search
//! may take time quadratic in their length.

use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Lines beyond which matches are not searched for.
const MAX_LINES: usize = 2_000;
/// Lines from which on frequent ones are no beginning of a match.
const MANY_LINES: usize = 200;

/// Lines that are the same: where in the old text, where in the new, how many.
type Match = (usize, usize, usize);

/// The hunks between two texts; none when they are the same.
pub fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), new.split('\n').collect());
    let mut out = String::new();
    for group in groups(&matches(&old, &new)) {
        let (first, last) = (group[0], group[group.len() - 1]);
        let range = |from: usize, to: usize| match to - from {
            1 => format!("{}", from + 1),
            0 => format!("{from},0"),
            count => format!("{},{count}", from + 1),
        };
        let _ = writeln!(out, "@@ -{} +{} @@", range(first.1, last.2), range(first.3, last.4));
        for (same, a, a_end, b, b_end) in group {
            let mut lines = |mark: char, lines: &[&str]| {
                for line in lines {
                    out.push(mark);
                    out.push_str(line);
                    out.push('\n');
                }
            };
            if same {
                lines(' ', &old[a..a_end]);
            } else {
                lines('-', &old[a..a_end]);
                lines('+', &new[b..b_end]);
            }
        }
    }
    out
}

/// Whether lines are the same, and which they are in the old and in the new text.
type Change = (bool, usize, usize, usize, usize);

/// Changes with their context, near ones together.
fn groups(matches: &[Match]) -> Vec<Vec<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    let (mut a, mut b) = (0, 0);
    for (in_old, in_new, count) in matches {
        if a < *in_old || b < *in_new {
            changes.push((false, a, *in_old, b, *in_new));
        }
        (a, b) = (in_old + count, in_new + count);
        if *count > 0 {
            changes.push((true, *in_old, a, *in_new, b));
        }
    }
    if let Some((true, a, a_end, b, b_end)) = changes.first_mut() {
        *a = (*a).max(a_end.saturating_sub(CONTEXT));
        *b = (*b).max(b_end.saturating_sub(CONTEXT));
    }
    if let Some((true, a, a_end, b, b_end)) = changes.last_mut() {
        *a_end = (*a_end).min(*a + CONTEXT);
        *b_end = (*b_end).min(*b + CONTEXT);
    }
    let mut groups = Vec::new();
    let mut group: Vec<Change> = Vec::new();
    for (same, mut a, a_end, mut b, b_end) in changes {
        if same && a_end - a > 2 * CONTEXT {
            group.push((true, a, a_end.min(a + CONTEXT), b, b_end.min(b + CONTEXT)));
            groups.push(std::mem::take(&mut group));
            a = a.max(a_end - CONTEXT);
            b = b.max(b_end - CONTEXT);
        }
        group.push((same, a, a_end, b, b_end));
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups.retain(|group| group.iter().any(|(same, ..)| !same));
    groups
}

/// Matching lines in order, and an empty match at the end.
fn matches(old: &[&str], new: &[&str]) -> Vec<Match> {
    let mut found = Vec::new();
    if old.len().max(new.len()) > MAX_LINES {
        let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(a, b)| a == b).count();
        found.push((0, 0, head));
        found.push((old.len() - tail, new.len() - tail, tail));
    } else {
        search(old, new, &mut found);
    }
    found.sort_unstable();
    let mut joined: Vec<Match> = Vec::new();
    for (a, b, count) in found {
        match joined.last_mut() {
            Some((last_a, last_b, length)) if *last_a + *length == a && *last_b + *length == b => {
                *length += count;
            }
            _ => joined.push((a, b, count)),
        }
    }
    joined.retain(|(.., count)| *count > 0);
    joined.push((old.len(), new.len(), 0));
    joined
}

fn search(old: &[&str], new: &[&str], found: &mut Vec<Match>) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, line) in new.iter().enumerate() {
        places.entry(line).or_default().push(at);
    }
    if new.len() >= MANY_LINES {
        places.retain(|_, at| at.len() <= new.len() / 100 + 1);
    }
    let mut todo = vec![(0, old.len(), 0, new.len())];
    while let Some((a, a_end, b, b_end)) = todo.pop() {
        let (i, j, count) = longest(old, new, &places, (a, a_end, b, b_end));
        if count == 0 {
            continue;
        }
        found.push((i, j, count));
        if a < i && b < j {
            todo.push((a, i, b, j));
        }
        if i + count < a_end && j + count < b_end {
            todo.push((i + count, a_end, j + count, b_end));
        }
    }
}

/// The longest match within bounds, the earliest of them.
fn longest(
    old: &[&str],
    new: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    (a, a_end, b, b_end): (usize, usize, usize, usize),
) -> Match {
    let (mut i, mut j, mut count) = (a, b, 0);
    // Lengths of matches that end at a line of the new text.
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for (at, line) in old.iter().enumerate().take(a_end).skip(a) {
        let mut next = HashMap::new();
        for place in places.get(line).into_iter().flatten().copied() {
            if place < b {
                continue;
            }
            if place >= b_end {
                break;
            }
            let length = place.checked_sub(1).and_then(|before| lengths.get(&before)).unwrap_or(&0) + 1;
            next.insert(place, length);
            if length > count {
                (i, j, count) = (at + 1 - length, place + 1 - length, length);
            }
        }
        lengths = next;
    }
    while i > a && j > b && old[i - 1] == new[j - 1] {
        (i, j, count) = (i - 1, j - 1, count + 1);
    }
    while i + count < a_end && j + count < b_end && old[i + count] == new[j + count] {
        count += 1;
    }
    (i, j, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_with_their_surroundings() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl";
        assert_eq!(diff(old, old), "");
        assert_eq!(diff(old, &old.replace('b', "B")), "@@ -1,5 +1,5 @@\n a\n-b\n+B\n c\n d\n e\n");
        assert_eq!(
            diff(old, &old.replace('a', "").replace('l', "m")),
            "@@ -1,4 +1,4 @@\n-a\n+\n b\n c\n d\n@@ -9,4 +9,4 @@\n i\n j\n k\n-l\n+m\n"
        );
        assert_eq!(diff("a", "a\nb"), "@@ -1 +1,2 @@\n a\n+b\n");
    }

    #[test]
    fn long_texts_are_trimmed() {
        let old = "x\n".repeat(5_000);
        let new = format!("{old}y\nx\n");
        assert!(diff(&old, &new).contains("+y\n"));
    }
}
