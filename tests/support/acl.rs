//! Permissions of a broker, given and taken away: two requests of the Kafka protocol, which librdkafka's wrapper lacks.
//!
//! `CreateAcls` (key 30) and `DeleteAcls` (key 31), both in version 1 (Kafka protocol guide).

use std::io::{Read, Write};
use std::net::TcpStream;

/// What a permission is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'r> {
    /// Every topic whose name begins so.
    Topics(&'r str),
    /// This topic.
    Topic(&'r str),
    /// Every transactional id that begins so.
    TransactionalIds(&'r str),
}

const ALL: u8 = 2;
const WRITE: u8 = 4;
const DENY: u8 = 2;
const ALLOW: u8 = 3;

/// Allows `user` everything with `resource`.
pub fn allow(bootstrap: &str, user: &str, resource: Resource<'_>) {
    create(bootstrap, user, resource, ALL, ALLOW);
}

/// Denies `user` to write to `resource`, whatever else is allowed.
pub fn deny_writing(bootstrap: &str, user: &str, resource: Resource<'_>) {
    create(bootstrap, user, resource, WRITE, DENY);
}

/// Takes back what [`deny_writing`] said.
pub fn stop_denying(bootstrap: &str, user: &str, resource: Resource<'_>) {
    let mut body = 1_i32.to_be_bytes().to_vec();
    binding(&mut body, user, resource, WRITE, DENY);
    let answer = ask(bootstrap, 31, &body);
    // Throttle time, the number of filters, then the error of the first.
    assert_eq!(answer[8..10], [0, 0], "DeleteAcls");
}

fn create(bootstrap: &str, user: &str, resource: Resource<'_>, operation: u8, permission: u8) {
    let mut body = 1_i32.to_be_bytes().to_vec();
    binding(&mut body, user, resource, operation, permission);
    let answer = ask(bootstrap, 30, &body);
    assert_eq!(answer[8..10], [0, 0], "CreateAcls");
}

fn binding(body: &mut Vec<u8>, user: &str, resource: Resource<'_>, operation: u8, permission: u8) {
    let [topic, transactional_id, literal, prefixed] = [2, 5, 3, 4];
    let (kind, name, pattern) = match resource {
        Resource::Topics(name) => (topic, name, prefixed),
        Resource::Topic(name) => (topic, name, literal),
        Resource::TransactionalIds(name) => (transactional_id, name, prefixed),
    };
    body.push(kind);
    text(body, name);
    body.push(pattern);
    text(body, &format!("User:{user}"));
    text(body, "*");
    body.extend([operation, permission]);
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
    body.extend(text.as_bytes());
}

/// The answer's body.
fn ask(bootstrap: &str, key: i16, body: &[u8]) -> Vec<u8> {
    let mut request = key.to_be_bytes().to_vec();
    request.extend(1_i16.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    text(&mut request, "test");
    request.extend(body);
    let mut broker = TcpStream::connect(bootstrap).expect("a broker");
    broker.write_all(&i32::try_from(request.len()).expect("short").to_be_bytes()).expect("written");
    broker.write_all(&request).expect("written");
    let mut length = [0; 4];
    broker.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
    broker.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer[..4], 7_i32.to_be_bytes());
    answer.split_off(4)
}
