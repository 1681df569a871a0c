//! The seats of one priority level, and who waits for them.
//!
//! While there are seats, a request costs a comparison and an addition; the lock is taken
//! only by requests that have to wait and by those that end while others wait. No wake-up
//! is lost: who queues says so before it looks for seats, who ends gives its seat back
//! before it looks for a queue.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::plan::queues::{Place, Queues};
use super::plan::spec::Mode;

/// A level at work. It outlives changes of its configuration.
pub(super) struct Level {
    limit: AtomicUsize,
    in_use: AtomicUsize,
    /// Requests that wait.
    waiting: AtomicUsize,
    /// Seats wanted at once at most since the last look.
    high: AtomicUsize,
    queues: Mutex<Queues<oneshot::Sender<()>>>,
}

/// Seats that a request has, given back when dropped.
pub(crate) struct Seat {
    level: Arc<Level>,
    width: usize,
    /// The queue it came out of, and since when it is served.
    queued: Option<(usize, Instant)>,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All seats are taken, and none may wait.
    Busy,
    /// The queue is full.
    Full,
    /// It has waited for too long.
    Late,
}

/// A request in a queue. Dropped (its client has gone, or it is late), it leaves.
struct InLine {
    level: Arc<Level>,
    place: Place,
    width: usize,
    served: bool,
}

impl Level {
    pub(super) fn new(mode: Mode, limit: usize) -> Self {
        let (queues, hand, length) = sizes(mode);
        Self {
            limit: AtomicUsize::new(limit),
            in_use: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            high: AtomicUsize::new(0),
            queues: Mutex::new(Queues::new(queues, hand, length)),
        }
    }

    pub(super) fn configure(&self, mode: Mode) {
        let (queues, hand, length) = sizes(mode);
        self.queues().configure(queues, hand, length);
    }

    /// Seats from now on.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.dispatch(&mut self.queues());
        }
    }

    /// Seats wanted at once at most since this was asked before.
    pub(super) fn take_high(&self) -> usize {
        let now = self.in_use.load(SeqCst) + self.queues().seats_waiting();
        self.high.swap(now, SeqCst).max(now)
    }

    fn queues(&self) -> MutexGuard<'_, Queues<oneshot::Sender<()>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, wanted: usize) {
        if wanted > self.high.load(SeqCst) {
            self.high.fetch_max(wanted, SeqCst);
        }
    }

    /// Takes seats if there are enough. What is wider than the whole level is served alone.
    fn take(&self, width: usize) -> bool {
        let limit = self.limit.load(SeqCst);
        let fits = |taken: usize| if width > limit { taken == 0 } else { taken + width <= limit };
        let taken = self.in_use.fetch_update(SeqCst, SeqCst, |taken| fits(taken).then_some(taken + width));
        if let Ok(before) = taken {
            self.note(before + width);
        }
        taken.is_ok()
    }

    /// Seats without asking.
    pub(super) fn exempt(self: &Arc<Self>, width: usize) -> Seat {
        let before = self.in_use.fetch_add(width, SeqCst);
        self.note(before + width);
        Seat { level: self.clone(), width, queued: None }
    }

    /// Seats if there are any and nobody waits for them.
    pub(super) fn at_once(self: &Arc<Self>, width: usize) -> Option<Seat> {
        let free = self.waiting.load(SeqCst) == 0 && self.take(width);
        free.then(|| Seat { level: self.clone(), width, queued: None })
    }

    /// Waits for seats.
    pub(super) async fn queue(
        self: &Arc<Self>,
        flow: u64,
        width: usize,
        patience: Duration,
    ) -> Result<Seat, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let mut in_line = {
            let mut queues = self.queues();
            self.waiting.fetch_add(1, SeqCst);
            let Ok(place) = queues.enqueue(flow, width, sender) else {
                self.waiting.fetch_sub(1, SeqCst);
                return Err(Refusal::Full);
            };
            self.note(self.in_use.load(SeqCst) + queues.seats_waiting());
            self.dispatch(&mut queues);
            InLine { level: self.clone(), place, width, served: false }
        };
        match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(())) => {
                in_line.served = true;
                let queued = Some((in_line.place.queue, Instant::now()));
                Ok(Seat { level: self.clone(), width, queued })
            }
            _ => Err(Refusal::Late),
        }
    }

    /// Gives seats to as many as there are seats for.
    fn dispatch(&self, queues: &mut Queues<oneshot::Sender<()>>) {
        while let Some((_, next)) = queues.next(|width| self.take(width)) {
            self.waiting.fetch_sub(1, SeqCst);
            // Who has gone meanwhile gives the seats back by itself.
            let _ = next.payload.send(());
        }
    }

    fn give_back(&self, width: usize, queued: Option<(usize, Instant)>) {
        self.in_use.fetch_sub(width, SeqCst);
        if queued.is_none() && self.waiting.load(SeqCst) == 0 {
            return;
        }
        let mut queues = self.queues();
        if let Some((queue, since)) = queued {
            queues.finish(queue, width, since.elapsed().as_secs_f64());
        }
        self.dispatch(&mut queues);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.level.give_back(self.width, self.queued);
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let waited = self.level.queues().cancel(self.place);
        if waited {
            self.level.waiting.fetch_sub(1, SeqCst);
            // It may have been in the way of narrower ones.
            self.level.dispatch(&mut self.level.queues());
        } else {
            self.level.give_back(self.width, Some((self.place.queue, Instant::now())));
        }
    }
}

fn sizes(mode: Mode) -> (usize, usize, usize) {
    match mode {
        Mode::Queue { queues, hand, length } => (queues, hand, length),
        Mode::Exempt | Mode::Reject => (1, 1, 0),
    }
}
