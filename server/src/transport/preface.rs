//! The 24 bytes by which a client says that it speaks HTTP/2.
//!
//! hyper waits for them without a limit, so they are read here first, against the clock, and then
//! put back in front of the socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose peer has sent the preface, which is to be read once more.
#[derive(Debug)]
pub(super) struct Prefaced<T> {
    /// What is left of the preface.
    unread: &'static [u8],
    socket: T,
}

/// Reads the preface.
///
/// # Errors
/// If the peer sends anything else or closes. It is not waited for more than the first byte that
/// differs.
pub(super) async fn read<T: AsyncRead + Unpin>(mut socket: T) -> io::Result<Prefaced<T>> {
    let mut received = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < PREFACE.len() {
        let read = socket.read(&mut received[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if received[..filled] != PREFACE[..filled] {
            let error = "the peer does not speak HTTP/2 with prior knowledge";
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
    }
    let unread = PREFACE;
    Ok(Prefaced { unread, socket })
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefaced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let (now, later) = self
            .unread
            .split_at(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.unread = later;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefaced<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_preface_in_pieces_is_read_again_before_what_follows() {
        let (mut peer, socket) = duplex(64);
        let send = async {
            for byte in PREFACE {
                peer.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            peer.write_all(b"frames").await.unwrap();
            peer.shutdown().await.unwrap();
        };
        let receive = async {
            let mut prefaced = read(socket).await.unwrap();
            let mut all = Vec::new();
            prefaced.read_to_end(&mut all).await.unwrap();
            all
        };
        let ((), all) = tokio::join!(send, receive);
        assert_eq!(all, [&PREFACE[..], b"frames"].concat());
    }

    #[tokio::test]
    async fn another_protocol_is_refused_at_its_first_byte() {
        let (mut peer, socket) = duplex(64);
        peer.write_all(b"GET").await.unwrap();
        let error = read(socket).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
