//! Bodies that are counted as they pass.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};

use super::request_record::RequestRecord;
use crate::api::connection::{ActivityGuard, BlockedStream, BodyChunk};

pin_project_lite::pin_project! {
    /// The body of a response, counted as it is sent. Its record is written when it is dropped.
    pub struct RecordedBody<B> {
        #[pin]
        body: B,
        record: RequestRecord,
    }
}

impl<B> RecordedBody<B> {
    pub fn new(body: B, record: RequestRecord) -> RecordedBody<B> {
        RecordedBody { body, record }
    }
}

impl<B: Body> Body for RecordedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(context));
        this.record.is_whole = this.body.is_end_stream();
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.record.sent += data.remaining() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project_lite::pin_project! {
    /// The body of a response whose chunks count as under way until they are written.
    pub struct TrackedBody<B> {
        #[pin]
        body: B,
        // In HTTP/1 the connection itself knows whether it is blocked.
        is_http_2: bool,
        // Set from each chunk until the next one is asked for. HTTP/2 asks only once the client's
        // window is open.
        stream: Option<Arc<BlockedStream>>,
        under_way: ActivityGuard,
    }
}

impl<B> TrackedBody<B> {
    pub fn new(body: B, is_http_2: bool, under_way: ActivityGuard) -> TrackedBody<B> {
        let stream = is_http_2.then(|| under_way.blocked_stream());
        TrackedBody { body, is_http_2, stream, under_way }
    }
}

impl<B: Body> Body for TrackedBody<B> {
    type Data = BodyChunk<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        *this.stream = None;
        let frame = ready!(this.body.poll_frame(context));
        *this.stream = this.is_http_2.then(|| this.under_way.blocked_stream());
        Poll::Ready(frame.map(|frame| {
            let stream = this.stream.clone();
            frame.map(|frame| frame.map_data(|data| this.under_way.chunk(data, stream)))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
