//! Permissions of a broker, given and taken away: two requests of the Kafka protocol, which librdkafka's wrapper does not have.
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
    /// This transactional id.
    TransactionalId(&'r str),
}

/// What may be done, by its number in the protocol (`AclOperation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    DescribeConfigs = 10,
}

const DENY: u8 = 2;
const ALLOW: u8 = 3;

/// Allows `user` everything with `resource`.
pub fn allow(bootstrap: &str, user: &str, resource: Resource<'_>) {
    give(bootstrap, user, resource, Operation::All);
}

/// Allows `user` one thing with `resource`.
pub fn give(bootstrap: &str, user: &str, resource: Resource<'_>, operation: Operation) {
    create(bootstrap, user, resource, operation, ALLOW);
}

/// Takes back what [`give`] gave.
pub fn take(bootstrap: &str, user: &str, resource: Resource<'_>, operation: Operation) {
    delete(bootstrap, user, resource, operation, ALLOW);
}

/// Denies `user` to write to `resource`, whatever else is allowed.
pub fn deny_writing(bootstrap: &str, user: &str, resource: Resource<'_>) {
    create(bootstrap, user, resource, Operation::Write, DENY);
}

/// Takes back what [`deny_writing`] denied.
pub fn stop_denying(bootstrap: &str, user: &str, resource: Resource<'_>) {
    delete(bootstrap, user, resource, Operation::Write, DENY);
}

fn delete(bootstrap: &str, user: &str, resource: Resource<'_>, operation: Operation, permission: u8) {
    let mut body = 1_i32.to_be_bytes().to_vec();
    binding(&mut body, user, resource, operation, permission);
    let answer = ask(bootstrap, 31, &body);
    // Throttle time, the number of filters, the error of the first with its message, then how many it matched.
    assert_eq!(answer[8..10], [0, 0], "DeleteAcls");
    assert_eq!(answer[12..16], 1_i32.to_be_bytes(), "DeleteAcls: {resource:?} was not there");
}

fn create(bootstrap: &str, user: &str, resource: Resource<'_>, operation: Operation, permission: u8) {
    let mut body = 1_i32.to_be_bytes().to_vec();
    binding(&mut body, user, resource, operation, permission);
    let answer = ask(bootstrap, 30, &body);
    assert_eq!(answer[8..10], [0, 0], "CreateAcls");
}

fn binding(body: &mut Vec<u8>, user: &str, resource: Resource<'_>, operation: Operation, permission: u8) {
    let [topic, transactional_id, literal, prefixed] = [2, 5, 3, 4];
    let (kind, name, pattern) = match resource {
        Resource::Topics(name) => (topic, name, prefixed),
        Resource::Topic(name) => (topic, name, literal),
        Resource::TransactionalIds(name) => (transactional_id, name, prefixed),
        Resource::TransactionalId(name) => (transactional_id, name, literal),
    };
    body.push(kind);
    text(body, name);
    body.push(pattern);
    text(body, &format!("User:{user}"));
    text(body, "*");
    body.extend([operation as u8, permission]);
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
