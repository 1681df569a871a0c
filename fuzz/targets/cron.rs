//! Schedules and time zones of CronJobs.
#![no_main]

use carrack_api::cron;
use carrack_fuzz::within_bounds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| within_bounds(input, |input| {
    let text = String::from_utf8_lossy(input);
    let _ = cron::parse(&text);
    let _ = cron::location(&text);
    let _ = carrack_api::time::canonical(&text);
    let _ = carrack_api::time::canonical_micro(&text);
}));
