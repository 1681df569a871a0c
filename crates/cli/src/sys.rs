//! The one module of this crate that makes system calls by hand.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Ends the process at once on SIGTERM and SIGINT. As first process of a container it
/// would otherwise ignore them, since the kernel gives such a process no defaults.
///
/// # Errors
/// The kernel refuses the handler.
pub fn end_on_signal() -> nix::Result<()> {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: _exit is async-signal-safe and touches nothing of ours.
        unsafe { libc::_exit(0) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler calls nothing but an async-signal-safe function.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}
