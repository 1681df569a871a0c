//! What a person sees while the cluster starts: one line a step, with the time since
//! the beginning. A detached process writes the same lines to a pipe, from which the
//! command that the user called copies them.

use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

/// Where progress goes.
pub struct Progress {
    start: Instant,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Progress {
    /// Progress on `out`, counted from now.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { start: Instant::now(), out: Mutex::new(out) }
    }

    /// A step that is done: ` ✓ control plane ready   0.2 s   detail`.
    pub fn done(&self, step: &str, detail: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        self.line(format!(" ✓ {step:<36} {seconds:>5.1} s   {detail}").trim_end());
    }

    /// Something else to say.
    pub fn line(&self, text: &str) {
        if let Ok(mut out) = self.out.lock() {
            // A reader that has gone does not stop the cluster.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }
}
