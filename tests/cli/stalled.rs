//! `run` whose log nobody reads: a pipe that is full. It goes on, answers, and ends when it is asked to.

use super::{PATIENCE, program};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// An address that nobody has now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What the admin listener answers, once it does.
fn asked(address: SocketAddr, path: &str) -> String {
    let began = Instant::now();
    loop {
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        match answer {
            Ok(answer) if !answer.is_empty() => return answer,
            other => assert!(began.elapsed() < PATIENCE, "no answer to {path}: {other:?}"),
        }
        std::thread::yield_now();
    }
}

fn ended(child: &mut Child) -> i32 {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        assert!(began.elapsed() < PATIENCE, "it does not end");
        std::thread::yield_now();
    }
}

fn told_to_end(child: &Child) {
    let kill = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
}

/// `run` where neither provider nor Kafka are at home, and where its admin listener is.
fn start(stderr: Stdio, environment: &[(&str, &str)]) -> (Child, SocketAddr) {
    let admin = free_address();
    let webhook = free_address();
    let child = program(&["run", "--log-level", "debug"], environment)
        .envs([
            ("PEPAY_RELAY_API_KEY", "ck_test_1"),
            ("PEPAY_RELAY_WEBHOOK_SECRETS", "secret"),
            ("PEPAY_RELAY__PROVIDER__ENVIRONMENT", "devnet"),
            ("PEPAY_RELAY__PROVIDER__API_URL", "http://127.0.0.1:1"),
            ("PEPAY_RELAY__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
            ("PEPAY_RELAY__ADMIN__LISTEN", &admin.to_string()),
            ("PEPAY_RELAY__WEBHOOK__LISTEN", &webhook.to_string()),
        ])
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn();
    (child.unwrap(), admin)
}

#[test]
fn a_log_that_nobody_reads_stops_neither_answers_nor_the_end() {
    for second_signal in [false, true] {
        let (reader, writer) = std::io::pipe().unwrap();
        // Whatever a pipe takes, this thread has put into it, and writes on until the reader is gone.
        let mut full = writer.try_clone().unwrap();
        let filling = std::thread::spawn(move || while full.write_all(&[b'x'; 4096]).is_ok() {});
        let (mut child, admin) = start(writer.into(), &[]);
        assert!(asked(admin, "/livez").starts_with("HTTP/1.1 200 "));
        assert!(asked(admin, "/metrics").contains("pepay_relay_log_lines_dropped_total 0\n"));
        told_to_end(&child);
        if second_signal && child.try_wait().unwrap().is_none() {
            told_to_end(&child);
        }
        // Its last words, if there are any, find no reader either.
        let status = ended(&mut child);
        assert!(status == 0 || (second_signal && status == 1), "{status}");
        drop(reader);
        filling.join().unwrap();
    }
}

#[test]
fn a_service_manager_that_is_gone_ends_nothing() {
    let (mut child, admin) = start(Stdio::piped(), &[("NOTIFY_SOCKET", "/nonexistent/notify")]);
    assert!(asked(admin, "/livez").starts_with("HTTP/1.1 200 "));
    told_to_end(&child);
    assert_eq!(ended(&mut child), 0);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let warned = said.lines().filter(|line| line.contains("NOTIFY_SOCKET leads nowhere")).count();
    assert_eq!(warned, 1, "{said}");
}
