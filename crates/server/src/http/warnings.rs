//! `Warning` headers (RFC 7234, 5.5), short enough for any client: all texts together have
//! at most 4,096 characters, or each has at most 256, as upstream has it
//! (`filters/warning.go`).

use http::header::HeaderValue;

/// Characters of all texts, before each is cut.
const TOTAL: usize = 4096;
/// Characters of one, once they are cut.
const EACH: usize = 256;

/// The values of the headers; a text with control characters has none.
pub(super) fn headers(texts: &[String]) -> Vec<HeaderValue> {
    let texts = || texts.iter().filter(|text| !text.is_empty() && !text.contains(char::is_control));
    let mut written = 0;
    let fit = texts().take_while(|text| {
        written += text.chars().count();
        written <= TOTAL
    });
    let fit = fit.count();
    if fit == texts().count() {
        return texts().filter_map(|text| header(text)).collect();
    }
    let mut written = 0;
    let mut headers = Vec::new();
    for (at, text) in texts().enumerate() {
        // What came before the first that does not fit was promised already.
        if at > fit && written >= TOTAL {
            break;
        }
        let short: String = text.chars().take(EACH).collect();
        written += short.chars().count();
        headers.extend(header(&short));
    }
    headers
}

fn header(text: &str) -> Option<HeaderValue> {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], expect: &[&str]) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let headers = headers(&texts);
        let said: Vec<&str> =
            headers.iter().map(|value| std::str::from_utf8(value.as_bytes()).unwrap()).collect();
        let expect: Vec<String> = expect.iter().map(|text| format!("299 - \"{text}\"")).collect();
        assert_eq!(said, expect);
    }

    #[test]
    fn many_or_long_texts_are_cut() {
        check(&["a \"b\" \\", "", "c\nd", "é"], &["a \\\"b\\\" \\\\", "é"]);
        let (long, cut) = ("é".repeat(4096), "é".repeat(256));
        check(&[&long], &[&long]);
        check(&[&long, "b"], &[&cut, "b"]);
        check(&["b", &long], &["b", &cut]);
        let many = vec![&*cut; 40];
        check(&many, &many[..17]);
    }
}
