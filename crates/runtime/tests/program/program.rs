//! The program of the runtime's own tests: a shim when called as one, and otherwise the
//! payload in their containers, with a few small commands. Static, so that an image needs
//! nothing else. Not shipped.

use std::io::{Read, Write};
use std::time::Duration;

fn main() {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default().to_string_lossy().into_owned();
    if command == carrack_runtime::SHIM_COMMAND {
        std::process::exit(carrack_runtime::shim_main(args));
    }
    let args: Vec<String> = args.map(|a| a.to_string_lossy().into_owned()).collect();
    run(&command, &args);
}

fn run(command: &str, args: &[String]) {
    let arg = |n: usize| args.get(n).map(String::as_str).unwrap_or_default();
    match command {
        "echo" => println!("{}", args.join(" ")),
        "both" => {
            println!("to stdout");
            eprintln!("to stderr");
        }
        "sleep" => std::thread::sleep(Duration::from_secs(arg(0).parse().unwrap_or(1))),
        "exit" => std::process::exit(arg(0).parse().unwrap_or(0)),
        "env" => std::env::vars().for_each(|(k, v)| println!("{k}={v}")),
        "cat" => {
            for path in args {
                match std::fs::read_to_string(path) {
                    Ok(text) => print!("{text}"),
                    Err(e) => {
                        println!("{path}: {e}");
                        std::process::exit(1);
                    }
                }
            }
        }
        "ls" => {
            let mut names: Vec<String> = std::fs::read_dir(arg(0))
                .map(|entries| {
                    entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
                })
                .unwrap_or_default();
            names.sort();
            println!("{}", names.join(" "));
        }
        "write" => match std::fs::write(arg(0), arg(1)) {
            Ok(()) => println!("written"),
            Err(e) => {
                println!("{e}");
                std::process::exit(1);
            }
        },
        "cwd" => println!("{}", std::env::current_dir().unwrap_or_default().display()),
        "copy" => {
            let (mut input, mut bytes) = (std::io::stdin(), [0; 4096]);
            while let Ok(n) = input.read(&mut bytes) {
                if n == 0 || std::io::stdout().write_all(&bytes[..n]).is_err() {
                    break;
                }
                let _ = std::io::stdout().flush();
            }
        }
        "alloc" => alloc(arg(0).parse().unwrap_or(64)),
        "tick" => {
            for n in 0.. {
                println!("tick {n}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        "spam" => {
            for n in 0..arg(0).parse().unwrap_or(1000) {
                println!("line {n}");
            }
        }
        "serve" => serve(arg(0)),
        "signals" => signals(),
        "device" => device(arg(0)),
        "tty" => {
            let size = nix::sys::termios::tcgetattr(std::io::stdin()).is_ok();
            println!("terminal: {size}");
            let mut line = String::new();
            let _ = std::io::stdin().read_line(&mut line);
            println!("got {}", line.trim());
        }
        other => {
            eprintln!("unknown command {other}");
            std::process::exit(64);
        }
    }
}

/// Touches so many MiB.
fn alloc(mebibytes: usize) {
    let mut held = Vec::new();
    for _ in 0..mebibytes {
        held.push(vec![1u8; 1 << 20]);
    }
    println!("held {}", held.iter().map(|b| usize::from(b[7])).sum::<usize>());
    std::thread::sleep(Duration::from_secs(60));
}

/// Makes a node of the kernel's log device and opens it; in a file system of its own, mounted
/// without `nodev`, when asked to.
fn device(how: &str) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let dir = std::path::Path::new("/mine");
    std::fs::create_dir_all(dir).expect("the root is writable");
    if how == "mount" {
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, None::<&str>).expect("we may mount");
    }
    let node = dir.join("node");
    mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 11)).expect("we may make nodes");
    match std::fs::File::open(&node) {
        Ok(_) => println!("opened"),
        Err(e) => println!("{}", e.kind()),
    }
}

/// Answers each connection with a line.
fn serve(port: &str) {
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).expect("port is free");
    println!("listening");
    for stream in listener.incoming().flatten() {
        let mut stream = stream;
        let _ = stream.write_all(b"hello from the pod\n");
    }
}

/// Ends with 7 at SIGTERM.
fn signals() {
    use nix::sys::signal::{SigSet, Signal};
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block().expect("signals can be blocked");
    println!("waiting");
    let _ = set.wait();
    println!("terminating");
    std::process::exit(7);
}
