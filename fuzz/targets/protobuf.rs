//! Protobuf bodies of every kind: the envelope, then the message.
#![no_main]

use carrack_api::{decode, proto};
use carrack_fuzz::{Random, mutate_tree, row, use_object, within_bounds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let Some((kind, version, body)) = row(input) else { return };
    let v = &kind.versions[version];
    let raw = match proto::open(body) {
        Ok(envelope) => envelope.raw,
        Err(error) => {
            let _ = error.of_unknown(body);
            return;
        }
    };
    if let Ok(object) = proto::decode(&v.schema, v.root, raw)
        && object.is_object()
    {
        use_object(kind, version, object);
    }
}));

// Lengths within lengths do not survive changed bytes: half of the inputs are changed as
// the objects that they are.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed);
    let mut changed = || -> Option<Vec<u8>> {
        let (kind, version, body) = row(&data[..size])?;
        let v = &kind.versions[version];
        let mut object = proto::decode(&v.schema, v.root, proto::open(body).ok()?.raw).ok()?;
        for _ in 0..=random.below(4) {
            mutate_tree(&mut object, &mut random);
        }
        let object = decode::object_value(kind, version, object).ok()?.value;
        let raw = proto::encode(&v.schema, v.root, &object).ok()?;
        Some(proto::wrap(&kind.api_version(version), &kind.kind, &raw))
    };
    match if seed.is_multiple_of(2) { changed() } else { None } {
        Some(body) if body.len() < max_size => {
            data[1..=body.len()].copy_from_slice(&body);
            body.len() + 1
        }
        _ => fuzzer_mutate(data, size, max_size),
    }
});
