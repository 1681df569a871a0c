//! Fair queueing with shuffle sharding: a flow has a hand of queues, a request waits in
//! the least loaded of them, and the queue goes next that has been served least.
//!
//! Work is counted in seat-seconds. A dispatched request is charged [`ESTIMATE`] seconds
//! until it is known how long it took, so that a queue with much in progress stands back.
//! (After `fairqueuing/queueset`; its virtual clock runs with real time, ours is the least
//! that any busy queue has been served, which comes to the same for queues that compete.)

use std::collections::VecDeque;

/// Seconds that a request is taken to need.
const ESTIMATE: f64 = 60.0;

/// The queues of one level, with what waits in them.
#[derive(Debug)]
pub(crate) struct Queues<T> {
    queues: Vec<Queue<T>>,
    hand: usize,
    length: usize,
    /// Work that an idle queue starts at.
    clock: f64,
    /// Queue after which the next search begins, so that equals take turns.
    turn: usize,
    /// Requests that ever waited: their numbers, and where in a hand the next looks first.
    arrived: u64,
    seats_waiting: usize,
}

#[derive(Debug)]
struct Queue<T> {
    line: VecDeque<Waiting<T>>,
    seats_waiting: usize,
    /// Seats that requests out of this queue have.
    seats: usize,
    /// Seat-seconds that the queue has been served, estimates for what is in progress
    /// included.
    served: f64,
}

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    id: u64,
    pub(crate) width: usize,
    pub(crate) payload: T,
}

/// Where a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) queue: usize,
    id: u64,
}

impl<T> Queue<T> {
    fn is_idle(&self) -> bool {
        self.line.is_empty() && self.seats == 0
    }

    fn settled(&self) -> f64 {
        self.served - self.seats as f64 * ESTIMATE
    }
}

impl<T> Queues<T> {
    pub(crate) fn new(queues: usize, hand: usize, length: usize) -> Self {
        let mut new = Self {
            queues: Vec::new(),
            hand: 1,
            length: 1,
            clock: 0.0,
            turn: 0,
            arrived: 0,
            seats_waiting: 0,
        };
        new.configure(queues, hand, length);
        new
    }

    /// Changes sizes. Queues that are no longer wanted go when there is nothing in them.
    pub(crate) fn configure(&mut self, queues: usize, hand: usize, length: usize) {
        (self.hand, self.length) = (hand.clamp(1, queues.max(1)), length);
        while self.queues.len() > queues && self.queues.last().is_some_and(Queue::is_idle) {
            self.queues.pop();
        }
        while self.queues.len() < queues {
            let served = self.clock;
            self.queues.push(Queue { line: VecDeque::new(), seats_waiting: 0, seats: 0, served });
        }
    }

    /// Seats that are waited for.
    pub(crate) fn seats_waiting(&self) -> usize {
        self.seats_waiting
    }

    /// Puts a request of a flow into a queue; gives it back when the queue is full.
    pub(crate) fn enqueue(&mut self, flow: u64, width: usize, payload: T) -> Result<Place, T> {
        let mut hand = [0; MOST_HAND];
        let hand = deal(flow, self.queues.len(), &mut hand[..self.hand.min(MOST_HAND)]);
        let first = (self.arrived as usize) % hand.len();
        let (before, after) = hand.split_at(first);
        let in_order = after.iter().chain(before);
        let Some(&at) = in_order.min_by_key(|at| self.queues[**at].seats_waiting) else {
            return Err(payload);
        };
        if self.queues[at].line.len() >= self.length {
            return Err(payload);
        }
        if self.queues[at].is_idle() {
            let busy = self.queues.iter().filter(|queue| !queue.is_idle());
            let least = busy.map(Queue::settled).fold(f64::INFINITY, f64::min);
            if least.is_finite() {
                self.clock = self.clock.max(least);
            }
            self.queues[at].served = self.clock;
        }
        self.arrived += 1;
        self.seats_waiting += width;
        let queue = &mut self.queues[at];
        queue.seats_waiting += width;
        queue.line.push_back(Waiting { id: self.arrived, width, payload });
        Ok(Place { queue: at, id: self.arrived })
    }

    /// Takes out the request whose turn it is, if there are the seats it needs.
    pub(crate) fn next(&mut self, mut seats: impl FnMut(usize) -> bool) -> Option<(usize, Waiting<T>)> {
        let count = self.queues.len();
        let mut best: Option<(f64, usize)> = None;
        for at in (1..=count).map(|step| (self.turn + step) % count) {
            let queue = &self.queues[at];
            let Some(first) = queue.line.front() else { continue };
            let finish = queue.served + first.width as f64 * ESTIMATE;
            if best.is_none_or(|(least, _)| finish < least) {
                best = Some((finish, at));
            }
        }
        let (_, at) = best?;
        let queue = &mut self.queues[at];
        // Nobody overtakes a request that needs more seats than there are, or it would
        // wait for ever.
        if !queue.line.front().is_some_and(|first| seats(first.width)) {
            return None;
        }
        let waiting = queue.line.pop_front()?;
        queue.served += waiting.width as f64 * ESTIMATE;
        queue.seats += waiting.width;
        queue.seats_waiting -= waiting.width;
        self.seats_waiting -= waiting.width;
        self.turn = at;
        Some((at, waiting))
    }

    /// Notes how long a request out of a queue took.
    pub(crate) fn finish(&mut self, queue: usize, width: usize, seconds: f64) {
        let Some(queue) = self.queues.get_mut(queue) else { return };
        queue.served -= width as f64 * (ESTIMATE - seconds);
        queue.seats = queue.seats.saturating_sub(width);
    }

    /// Takes out a request that no longer waits; `false` if it is not there any more.
    pub(crate) fn cancel(&mut self, place: Place) -> bool {
        let Some(queue) = self.queues.get_mut(place.queue) else { return false };
        let Some(at) = queue.line.iter().position(|waiting| waiting.id == place.id) else { return false };
        let width = queue.line.remove(at).map_or(0, |waiting| waiting.width);
        queue.seats_waiting -= width;
        self.seats_waiting -= width;
        true
    }
}

/// Queues in a hand at most: what validation allows, and then some.
const MOST_HAND: usize = 16;

/// Deals a hand of different queues out of `deck`, the same for the same flow.
///
/// (After `util/shufflesharding`.)
pub(crate) fn deal(flow: u64, deck: usize, hand: &mut [usize]) -> &[usize] {
    // The last cards would be uneven with all bits.
    let mut value = flow & ((1 << 60) - 1);
    let count = hand.len().min(deck);
    for (at, card) in hand[..count].iter_mut().enumerate() {
        let left = (deck - at) as u64;
        *card = (value % left) as usize;
        value /= left;
    }
    // Each remainder counts among the cards that are left: those before it are skipped.
    for at in (0..count).rev() {
        for before in (0..at).rev() {
            if hand[at] >= hand[before] {
                hand[at] += 1;
            }
        }
    }
    &hand[..count]
}
