//! A connection's bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::activity::Activity;
use super::refusal::{MakeProblem, status_of_bare_refusal, with_body};

/// How long a connection that the gateway ends is read from, to be thrown away.
const LINGER: Duration = Duration::from_secs(1);

/// The stream to one client. It notes whether the client reads what is written, and gives a body to
/// the refusals that hyper writes without one.
pub struct ClientStream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// `None`: it was dropped.
    inner: Option<C>,
    /// Whether the client has closed its side.
    at_end: bool,
    activity: Arc<Activity>,
    make_problem: MakeProblem,
    /// The rest of a refusal that is being written, and how many of hyper's bytes it replaces.
    refusal: Option<(Bytes, usize)>,
    /// Counts the connection, also after an upgrade.
    _active: G,
}

impl<C, G> ClientStream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    pub fn new(
        inner: C,
        activity: Arc<Activity>,
        make_problem: MakeProblem,
        active: G,
    ) -> ClientStream<C, G> {
        let (inner, at_end) = (Some(inner), false);
        ClientStream { inner, at_end, activity, make_problem, refusal: None, _active: active }
    }

    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        self.activity.wrote(written.is_pending());
        written
    }

    fn inner(&mut self) -> io::Result<Pin<&mut C>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes what is left of a refusal.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((mut left, replaced)) = self.refusal.take() {
            if left.is_empty() {
                return Poll::Ready(Ok(replaced));
            }
            let written = self.inner()?.poll_write(context, &left);
            if let Poll::Ready(Ok(written)) = written {
                left.advance(written);
            }
            self.refusal = Some((left, replaced));
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(0))
    }
}

impl<C, G> Drop for ClientStream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// Reads on for a moment. Closing a socket with unread bytes in it resets the connection, and
    /// the client may then never see the last response: that its body is too large, for example.
    fn drop(&mut self) {
        if let (Some(mut inner), false) = (self.inner.take(), self.at_end)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(LINGER, async move {
                let _ = inner.shutdown().await;
                let _ = tokio::io::copy(&mut inner, &mut tokio::io::sink()).await;
            }));
        }
    }
}

impl<C, G: Unpin> AsyncRead for ClientStream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.inner()?.poll_read(context, buffer);
        self.at_end = match &read {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        read
    }
}

impl<C, G: Unpin> AsyncWrite for ClientStream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none()
            && self.activity.is_idle()
            && let Some(status) = status_of_bare_refusal(bytes)
        {
            let (request_id, body) = (self.make_problem)(status);
            self.refusal = Some((with_body(bytes, &request_id, &body), bytes.len()));
        }
        let written = if self.refusal.is_some() {
            self.poll_refusal(context)
        } else {
            self.inner()?.poll_write(context, bytes)
        };
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) => self.poll_write(context, only),
            _ => {
                let written = self.inner()?.poll_write_vectored(context, slices);
                self.noted(written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }
}
