//! What the C allocator keeps of what is freed.

/// What may stay free at the end of each heap: what a few of librdkafka's requests took, each of them a block of up to 1 MiB
/// (`batch.size`) for records and another one for what they were compressed to.
const KEPT_BYTES: usize = 8 << 20;

/// Has glibc keep what a commit frees for the next one. By default a heap gives all but 128 KiB at its end back to the kernel, and
/// each page of it costs a fault when it is needed again: 1.25 an event with 64 senders of webhooks, 6 to 14 % of its
/// processor time.
///
/// A mapped block that is freed raises glibc's `M_MMAP_THRESHOLD` to its size and `M_TRIM_THRESHOLD` to twice that (mallopt(3)), so
/// that blocks below that size come from heaps from then on. This one is never touched and takes no memory itself. With
/// another allocator nothing happens.
pub fn keep_freed() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES / 2)));
}
