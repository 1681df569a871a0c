//! Facts from apimachinery's own tests of quantities.

use super::*;

fn check(text: &str, expect: &str) {
    let got = canonical(text).map_or_else(|e| e.to_string(), |t| t.into_owned());
    assert_eq!(got, expect, "{text:?}");
}

#[test]
fn canonical_forms() {
    for (text, expect) in [
        ("0", "0"),
        ("0m", "0"),
        ("0.0", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("100m", "100m"),
        ("1.500", "1.500"),
        ("1.5Gi", "1536Mi"),
        ("1024Ki", "1Mi"),
        ("64Mi", "64Mi"),
        ("1023Ki", "1023Ki"),
        ("0.5Mi", "512Ki"),
        ("0.1Mi", "104857600m"),
        ("1Ki", "1Ki"),
        ("1000Ki", "1000Ki"),
        ("12e6", "12e6"),
        ("1e3", "1e3"),
        ("1000000", "1M"),
        ("100000", "100k"),
        ("12345678", "12345678"),
        ("0.1m", "100u"),
        ("0.0001m", "100n"),
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1.1e1", "1.1e1"),
        ("0.11e2", "11"),
        ("-5m", "-5m"),
        ("+5m", "+5m"),
        ("1000000Ki", "1000000Ki"),
        ("8Ei", "9223372036854775807"),
        ("1000000000000000000000", "1e21"),
        (" 5 ", "5"),
        (".5", "500m"),
        ("5.", "5."),
        ("1048576Ki", "1Gi"),
    ] {
        check(text, expect);
    }
}

#[test]
fn refusals() {
    let format = Error::Format.to_string();
    let suffix = Error::Suffix.to_string();
    for text in ["", "1.1.M", "1+1.0M", "0.1mi0x", "aoeu", ".5i0 ", "1K i", "5 k"] {
        let got = canonical(text).unwrap_err().to_string();
        assert!(got == format || got == suffix, "{text}: {got}");
    }
    check("1xyz", &format);
    check("1K", &suffix);
    check("12.2k2", &suffix);
    check("hello", &format);
    check(&"9".repeat(50), &Error::Numeric.to_string());
}

#[test]
fn values_and_sums() {
    let q = |text| Quantity::parse(text).unwrap();
    assert_eq!((q("1.5Gi").value(), q("100m").milli_value(), q("100m").value()), (1_610_612_736, 100, 1));
    assert_eq!((q("-100m").value(), q("1n").milli_value()), (-1, 1));
    assert_eq!(q("100m").plus(q("1")).to_string(), "1100m");
    assert_eq!(q("64Mi").plus(q("64Mi")).to_string(), "128Mi");
    assert_eq!(Quantity::ZERO.plus(q("1Gi")).to_string(), "1Gi");
    assert_eq!(q("1Gi").minus(q("1Mi")).to_string(), "1023Mi");
    assert_eq!(q("1").minus(q("1")).to_string(), "0");
    assert_eq!(q("250m").times(4).to_string(), "1");
    assert!(q("1Gi") > q("1G") && q("1e50") > q("1n") && q("-1e50") < q("-1n") && q("1000m") == q("1"));
    assert_eq!([q("100m"), q("200m")].into_iter().sum::<Quantity>(), q("0.3"));
}

proptest::proptest! {
    #[test]
    fn canonical_is_soon_a_fixed_point(text in "[+-]?[0-9]{1,12}(\\.[0-9]{0,10})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[+-]?[0-9]{1,2})?") {
        if let Ok(quantity) = Quantity::parse(&text) {
            let once = quantity.to_string();
            // What is no whole number of Ki loses its suffix, and with it the binary format:
            // 812.5Ki is 832000, as upstream has it, and that is 832k when it is read again.
            let twice = Quantity::parse(&once).unwrap().to_string();
            let parsed = Quantity::parse(&twice).unwrap();
            assert_eq!(parsed, quantity, "{text} {once} {twice}");
            assert_eq!(parsed.to_string(), twice);
        }
    }

    #[test]
    fn never_panics(text in ".{0,60}") {
        if let Ok(q) = Quantity::parse(&text) {
            let _ = (q.value(), q.plus(q).minus(q).times(3).to_string());
        }
    }
}
