//! A socket whose small writes leave together.
//!
//! HTTP/2 hands each frame of data to the socket with a flush of its own. Where many streams answer at
//! once, each of those system calls costs more than the frame itself. So small writes are gathered, and
//! go out one turn of the worker's queue later, with those of the tasks that were ready too. [`Together`]
//! sees to that, which polls the connection.
//!
//! Invariants: bytes leave in the order in which they were written; at most [`CAPACITY`] of them wait;
//! nothing waits while the connection sleeps but what the socket does not take yet, and then the
//! connection is woken once it does.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What may wait to be sent: some dozens of small messages, and less than what a connection holds
/// besides.
const CAPACITY: usize = 32 * 1024;
/// Longer writes are not worth a copy.
const LONGEST: usize = 8 * 1024;

/// The socket. A flush of it does nothing: [`Together`] flushes.
#[derive(Debug)]
pub(super) struct Corked<T> {
    shared: Arc<Mutex<Outbound<T>>>,
}

/// A connection over a [`Corked`] socket.
#[derive(Debug)]
pub(super) struct Together<C, T> {
    connection: C,
    shared: Arc<Mutex<Outbound<T>>>,
    /// Whether what waits has let others go first.
    has_waited: bool,
}

/// Both use it from the connection's task alone, so that nobody ever waits for the lock.
#[derive(Debug)]
struct Outbound<T> {
    socket: T,
    waiting: Vec<u8>,
    /// How much of `waiting` was sent.
    sent: usize,
}

impl<T> Corked<T> {
    pub(super) fn new(socket: T) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Outbound {
                socket,
                waiting: Vec::new(),
                sent: 0,
            })),
        }
    }

    /// Returns a connection that was made of this socket by `connect`.
    pub(super) fn serve<C>(self, connect: impl FnOnce(Self) -> C) -> Together<C, T> {
        let shared = Arc::clone(&self.shared);
        Together {
            connection: connect(self),
            shared,
            has_waited: false,
        }
    }
}

impl<C, T> Together<C, T> {
    /// Returns the connection itself, to be told something.
    pub(super) fn connection(&mut self) -> &mut C {
        &mut self.connection
    }
}

impl<C: Future + Unpin, T: AsyncWrite + Unpin> Future for Together<C, T> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let polled = Pin::new(&mut self.connection).poll(cx);
        let mut outbound = lock(&self.shared);
        if !outbound.waiting.is_empty() && !self.has_waited && polled.is_pending() {
            // Once more behind the tasks that are ready, whose frames then leave with these.
            cx.waker().wake_by_ref();
        } else {
            // A socket that failed tells the connection so when that writes or reads.
            let _sent = outbound.poll_send(cx);
        }
        // What is left has had its turn.
        let is_left = !outbound.waiting.is_empty();
        drop(outbound);
        self.has_waited = is_left;
        polled
    }
}

impl<T: AsyncWrite + Unpin> Outbound<T> {
    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            let rest = &self.waiting[self.sent..];
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.waiting.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Takes a small write, where there is room for it.
    fn take(&mut self, slices: &[IoSlice<'_>]) -> Option<usize> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if length > LONGEST || self.waiting.len() + length > CAPACITY {
            return None;
        }
        self.waiting.reserve_exact(CAPACITY - self.waiting.len());
        for slice in slices {
            self.waiting.extend_from_slice(slice);
        }
        Some(length)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut outbound = lock(&self.shared);
        if let Some(taken) = outbound.take(slices) {
            return Poll::Ready(Ok(taken));
        }
        ready!(outbound.poll_send(cx))?;
        match outbound.take(slices) {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => Pin::new(&mut outbound.socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.shared).socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbound = lock(&self.shared);
        ready!(outbound.poll_send(cx))?;
        Pin::new(&mut outbound.socket).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.shared).socket).poll_read(cx, buffer)
    }
}

/// Nothing panics while it is held but what the socket does, and that leaves it whole.
fn lock<T>(shared: &Mutex<Outbound<T>>) -> MutexGuard<'_, Outbound<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize, sync::atomic::Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::mpsc;

    use super::*;

    /// Counts the writes that reach the socket.
    struct Counted {
        socket: DuplexStream,
        writes: Arc<AtomicUsize>,
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.socket).poll_write(cx, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.socket).poll_shutdown(cx)
        }
    }

    /// Returns a socket that takes `capacity` bytes ahead, its peer, and the number of writes to it.
    fn pair(capacity: usize) -> (Corked<Counted>, DuplexStream, Arc<AtomicUsize>) {
        let (socket, peer) = duplex(capacity);
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Counted {
            socket,
            writes: Arc::clone(&writes),
        };
        (Corked::new(counted), peer, writes)
    }

    /// Message `n`, of `length` bytes.
    fn message(n: usize, length: usize) -> Vec<u8> {
        vec![u8::try_from(n % 251).unwrap(); length]
    }

    #[tokio::test]
    async fn small_writes_leave_together_once_the_connection_sleeps() {
        let (corked, mut peer, writes) = pair(1 << 20);
        let seen = Arc::clone(&writes);
        let connection = corked.serve(|mut socket| {
            Box::pin(async move {
                for n in 0..5 {
                    socket.write_all(&message(n, 1000)).await.unwrap();
                    socket.flush().await.unwrap();
                }
                assert_eq!(seen.load(Ordering::Relaxed), 0);
                std::future::pending::<()>().await;
            })
        });
        let connection = tokio::spawn(connection);
        let mut received = vec![0; 5000];
        peer.read_exact(&mut received).await.unwrap();
        let expected: Vec<_> = (0..5).flat_map(|n| message(n, 1000)).collect();
        assert!(received == expected);
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        connection.abort();
    }

    #[tokio::test]
    async fn whatever_the_lengths_bytes_arrive_in_order_through_a_socket_that_takes_few() {
        let (corked, mut peer, _) = pair(700);
        let lengths = [
            1,
            900,
            LONGEST,
            LONGEST + 1,
            3,
            20_000,
            9,
            70_000,
            5,
            LONGEST,
        ];
        let connection = corked.serve(|mut socket| {
            Box::pin(async move {
                for round in 0..20 {
                    for (n, &length) in lengths.iter().enumerate() {
                        socket.write_all(&message(round + n, length)).await.unwrap();
                        socket.flush().await.unwrap();
                        let waiting = lock(&socket.shared).waiting.len();
                        assert!(waiting <= CAPACITY, "{waiting} bytes wait");
                    }
                }
                socket.shutdown().await.unwrap();
            })
        });
        let connection = tokio::spawn(connection);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        let expected: Vec<_> = (0..20)
            .flat_map(|round| (0..lengths.len()).map(move |n| (round + n, lengths[n])))
            .flat_map(|(n, length)| message(n, length))
            .collect();
        assert!(received == expected);
        connection.await.unwrap();
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_yet_follows_without_a_word_of_the_connection() {
        let (corked, mut peer, _) = pair(100);
        let mut polls = 0;
        let connection = corked.serve(|mut socket| {
            Box::pin(poll_fn(move |cx| {
                polls += 1;
                if polls == 1 {
                    let bytes = message(7, 1000);
                    assert!(Pin::new(&mut socket).poll_write(cx, &bytes).is_ready());
                }
                Poll::<()>::Pending
            }))
        });
        let connection = tokio::spawn(connection);
        let mut received = vec![0; 1000];
        peer.read_exact(&mut received).await.unwrap();
        assert!(received == message(7, 1000));
        connection.abort();
    }

    #[tokio::test]
    async fn frames_wait_for_those_of_tasks_that_are_ready() {
        let (corked, mut peer, writes) = pair(1 << 20);
        let (answers, mut answered) = mpsc::channel(8);
        let connection = corked.serve(|mut socket| {
            Box::pin(poll_fn(move |cx| {
                while let Poll::Ready(Some(n)) = answered.poll_recv(cx) {
                    let bytes = message(n, 100);
                    assert!(Pin::new(&mut socket).poll_write(cx, &bytes).is_ready());
                    assert!(Pin::new(&mut socket).poll_flush(cx).is_ready());
                }
                Poll::<()>::Pending
            }))
        });
        answers.send(1).await.unwrap();
        let connection = tokio::spawn(connection);
        // Ready as the connection is, and behind it.
        let other = tokio::spawn(async move { answers.send(2).await.unwrap() });
        let mut received = vec![0; 200];
        peer.read_exact(&mut received).await.unwrap();
        assert!(received == [message(1, 100), message(2, 100)].concat());
        assert_eq!(writes.load(Ordering::Relaxed), 1);
        other.await.unwrap();
        connection.abort();
    }
}
