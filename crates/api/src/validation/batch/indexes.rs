//! Sets of indexes as Jobs write them: `1,3-5,7`.

use crate::go::quoted;

/// How many indexes there are, if they are below `completions` and rise.
pub fn total(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last) = (0, None);
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that is in both sets, as a sentence.
pub fn overlap(completed: &str, failed: &str, completions: i64) -> Option<String> {
    let parse = |text: &str| -> Vec<(i64, i64)> {
        let parts = text.split(',').filter(|_| !text.is_empty());
        parts.filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (parse(completed), parse(failed));
    let (mut c, mut f) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some((c_first, c_end)), Some((f_first, f_end))) = (c.peek(), f.peek()) {
        if c_first <= f_end && f_first <= c_end {
            let at = c_first.max(f_first);
            return Some(format!("failedIndexes and completedIndexes overlap at index: {at}"));
        }
        if c_first <= f_first {
            c.next();
        } else {
            f.next();
        }
    }
    None
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = part.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(part)
        ));
    }
    let number = |text: &str| {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quoted(text)))?;
        if number >= completions {
            return Err(format!("too large index: {}", quoted(text)));
        }
        Ok(number)
    };
    let first = number(limits[0])?;
    let Some(end) = limits.get(1) else { return Ok((first, first)) };
    let end = number(end)?;
    if first >= end {
        return Err(format!("non-increasing order, previous: {first}, current: {end}"));
    }
    Ok((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_rise_and_stay_below() {
        for (text, expect) in [
            ("", Ok(0)),
            ("1,3-5", Ok(4)),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("5-5", Err("non-increasing order, previous: 5, current: 5")),
            ("12", Err("too large index: \"12\"")),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
        ] {
            assert_eq!(total(text, 10), expect.map_err(str::to_owned), "{text}");
        }
        assert_eq!(
            overlap("1-3,7", "4,7-8", 10).as_deref(),
            Some("failedIndexes and completedIndexes overlap at index: 7")
        );
        assert_eq!(overlap("1-3", "4", 10), None);
    }
}
