//! The tokens that lists are gone on with: as a client sends them, and with the input as
//! what they say.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use carrack_fuzz::{server, within_bounds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    server::prepare();
    within_bounds(input, |input| {
        let list = |token: &str| {
            let token = server::escaped(token);
            for path in ["/api/v1/configmaps", "/api/v1/namespaces/default/pods"] {
                server::send("GET", &format!("{path}?limit=1&continue={token}"), "", &[]);
            }
        };
        list(&String::from_utf8_lossy(input));
        list(&URL_SAFE_NO_PAD.encode(input));
    });
});
