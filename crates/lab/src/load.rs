//! A steady load of HTTP requests from a machine: so many a second, a new connection
//! for each, whatever became of those before. Nothing is tried again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::machine::Machine;

/// How long one request may take, connection included.
const LIMIT: Duration = Duration::from_secs(5);

/// What became of the requests so far.
#[derive(Debug, Default, Clone)]
pub struct Outcome {
    /// Requests that were answered as expected.
    pub answered: usize,
    /// The others: seconds since the start, and why.
    pub failed: Vec<String>,
    /// The slowest answer.
    pub slowest: Duration,
}

/// A load that runs until it is stopped or dropped.
pub struct Load {
    outcome: Arc<Mutex<Outcome>>,
    stop: Arc<AtomicBool>,
    driver: Option<JoinHandle<()>>,
}

impl Load {
    /// Asks `address` for `/` that often a second; an answer is one with status 200 and
    /// `expect` in it.
    pub fn start(machine: &Machine, address: SocketAddr, per_second: u32, expect: &'static str) -> Self {
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (results, stopped) = (outcome.clone(), stop.clone());
        let driver = machine.inside(move || {
            let (start, pause) = (Instant::now(), Duration::from_secs(1) / per_second);
            let mut running = Vec::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let results = results.clone();
                running.push(std::thread::spawn(move || {
                    let begun = Instant::now();
                    let said = request(address, expect);
                    let mut all = results.lock().unwrap_or_else(PoisonError::into_inner);
                    match said {
                        Ok(()) => all.answered += 1,
                        Err(why) => {
                            all.failed.push(format!("{:.3} s: {why:#}", (begun - start).as_secs_f64()));
                        }
                    }
                    all.slowest = all.slowest.max(begun.elapsed());
                }));
                running.retain(|request| !request.is_finished());
                std::thread::sleep((start + pause * (number + 1)).saturating_duration_since(Instant::now()));
            }
            running.into_iter().for_each(|request| drop(request.join()));
        });
        Self { outcome, stop, driver: Some(driver) }
    }

    /// What became of the requests so far.
    pub fn so_far(&self) -> Outcome {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the load, waits for what is under way, and says how it went.
    pub fn stop(mut self) -> Outcome {
        self.end();
        self.so_far()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(driver) = self.driver.take() {
            let _ = driver.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn request(address: SocketAddr, expect: &str) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connect")?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").context("send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("receive, after {answer:?}"))?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains(expect), "answered {answer:?}");
    Ok(())
}
