//! What a request calls, and what becomes of the answers.

use iii_shards::builtin::{Failure, Outcome, OutgoingCall};
use iii_shards::channel::{ChannelEvent, Leaving};
use iii_shards::http::json::Raw;
use iii_shards::http::request::{ChannelEnd, Channels, RequestObject};
use iii_shards::http::response::{Response, Verdict, is_null};
use iii_shards::http::route::condition_blocks;
use iii_shards::wire::codes;
use uuid::fmt::Hyphenated;

use super::connection::{Connection, OUTPUT_BYTES_HIGH};
use super::context::Context;
use super::request::{Body, Pending, Step, Target};
use super::transfer::{Download, Upload};

/// Namespace of functions that settings name.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How long the function of a writer that was lost may take to fail, too; after that the response counts as complete.
const LOST_WRITER_GRACE_MS: u64 = 250;

/// Which of a request's calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Middleware,
    Condition,
    Handler,
}

// === impl Connection: calls ===

impl Connection {
    pub(super) fn call_middleware(&mut self, cx: &mut Context<'_>) {
        self.call(Kind::Middleware, cx);
    }

    pub(super) fn call_condition(&mut self, cx: &mut Context<'_>) {
        self.call(Kind::Condition, cx);
    }

    pub(super) fn call_handler(&mut self, cx: &mut Context<'_>) {
        let holder = super::instance::holder(self.socket, self.sequence);
        let Some(pending) = &mut self.pending else { return };
        if pending.upload.is_none() {
            pending.upload = Some(Upload::new(holder | super::instance::UPLOAD, cx.host));
            pending.download = Some(Download::new(holder, cx.host));
        }
        self.call(Kind::Handler, cx);
        // The bytes of a JSON body can be read as well (HTTP-30); any other is read when the function asks for it.
        let Some(Pending { upload: Some(upload), body, .. }) = &mut self.pending else { return };
        match body {
            Body::None => upload.begin(Vec::new(), true),
            Body::Json(bytes, complete) => upload.begin(std::mem::take(bytes), *complete),
            Body::Stream => {}
        }
    }

    fn call(&mut self, kind: Kind, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        let mut scratch = std::mem::take(&mut cx.shared.scratch);
        scratch.clear();
        write_object(pending, kind, &self.peer, &mut scratch);
        let (namespace, function_id) = pending.callee();
        let metadata = match (&pending.target, kind) {
            (Target::Route(entry), Kind::Handler) => entry.route.metadata.as_deref().map(str::as_bytes),
            _ => None,
        };
        let head = pending.request.head();
        let token = cx.host.call(&OutgoingCall {
            namespace,
            function_id,
            data: &scratch,
            metadata,
            traceparent: Some(pending.trace.as_str()),
            baggage: head.header("baggage").and_then(|baggage| std::str::from_utf8(baggage).ok()),
            prefer: None,
            timeout_ms: None,
        });
        pending.call = Some(token);
        cx.shared.calls.insert(token, self.socket);
        if scratch.capacity() <= OUTPUT_BYTES_HIGH {
            cx.shared.scratch = scratch;
        }
    }
}

impl Pending {
    /// Whom the current step calls: namespace and function.
    fn callee(&self) -> (&str, &str) {
        match (&self.target, self.step) {
            (_, Step::Global(index)) => (DEFAULT_NAMESPACE, &self.site.middleware[index]),
            (Target::Route(entry), step) => {
                let config = &entry.route.config;
                let function = match step {
                    Step::Condition => config.condition_function_id.as_ref().unwrap_or(&entry.route.function_id),
                    Step::Route(index) => &config.middleware_function_ids[index],
                    _ => &entry.route.function_id,
                };
                (&entry.route.namespace, function)
            }
            (Target::Fallback(function), _) => (DEFAULT_NAMESPACE, function),
            (Target::Engine, _) => (DEFAULT_NAMESPACE, ""),
        }
    }
}

fn write_object(pending: &Pending, kind: Kind, peer: &str, out: &mut Vec<u8>) {
    let head = pending.request.head();
    let body = match &pending.body {
        Body::Json(body, true) => Raw::parse(body),
        _ => None,
    };
    let forwarded = pending.site.trust_proxy.then(|| head.header("x-forwarded-for")).flatten();
    let forwarded = forwarded.and_then(|list| std::str::from_utf8(list).ok()?.split(',').next()).map(str::trim);
    let object = RequestObject {
        head,
        entry: match &pending.target {
            Target::Route(entry) => Some(entry),
            Target::Fallback(_) | Target::Engine => None,
        },
        body,
        remote_addr: Some(forwarded.filter(|address| !address.is_empty()).unwrap_or(peer)),
        decode_path_params: pending.site.decode_path_params,
        extra_header: match (&pending.site.request_id_header, &pending.request_id) {
            (Some(name), Some(id)) => Some((name, id)),
            _ => None,
        },
    };
    match (kind, &pending.upload, &pending.download) {
        (Kind::Middleware, ..) => object.write_for_middleware(out),
        (Kind::Handler, Some(upload), Some(download)) => {
            let mut text = [[0; Hyphenated::LENGTH]; 4];
            let [upload_id, upload_key, download_id, download_key] = &mut text;
            let channels = Channels {
                request_body: ChannelEnd {
                    channel_id: upload.key.id.hyphenated().encode_lower(upload_id),
                    access_key: upload.key.key.hyphenated().encode_lower(upload_key),
                },
                response: ChannelEnd {
                    channel_id: download.key.id.hyphenated().encode_lower(download_id),
                    access_key: download.key.key.hyphenated().encode_lower(download_key),
                },
            };
            object.write(out, Some(channels));
        }
        _ => object.write(out, None),
    }
}

// === impl Connection: answers ===

impl Connection {
    pub(super) fn middleware_answered(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let Some(pending) = &self.pending else { return };
        let next = match pending.step {
            Step::Global(index) => Step::Global(index + 1),
            Step::Route(index) => Step::Route(index + 1),
            step => step,
        };
        match outcome {
            Ok(result) => match Verdict::from_result(&result) {
                Verdict::Continue => self.advance(next, cx),
                Verdict::Respond(response) => self.respond(response, cx),
            },
            Err(failure) => self.respond_failure(&failure, cx),
        }
    }

    pub(super) fn condition_answered(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        match outcome {
            Ok(result) if condition_blocks(&result) => self.respond(Response::condition_not_met(), cx),
            Ok(_) => self.advance(Step::Route(0), cx),
            Err(failure) => self.respond_failure(&failure, cx),
        }
    }

    /// The race of HTTP-58: whatever comes first, the returned value or the first bytes of the channel, is the answer.
    pub(super) fn handler_answered(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        let streaming = pending.is_streaming();
        match outcome {
            Err(failure) if !streaming && failure.code == codes::PAYLOAD_TOO_LARGE && pending.has_value() => {
                self.call_without_body(cx);
            }
            Err(failure) if !streaming => self.respond_failure(&failure, cx),
            Err(_) => self.break_off(cx),
            Ok(_) if streaming => {
                if pending.download.as_ref().is_some_and(|download| download.ended.is_some()) {
                    self.end_stream(cx);
                }
            }
            Ok(result) if is_null(&result) => {
                let has_writer = pending.download.as_ref().is_some_and(|download| download.joined);
                if !has_writer {
                    // Streaming handlers return before their socket is up (HTTP-59).
                    pending.grace_ms = cx.host.now().ms.saturating_add(pending.site.empty_result_grace_ms);
                }
            }
            Ok(result) => {
                let error_id = cx.error_id();
                self.respond(Response::from_result(&result, error_id), cx);
            }
        }
    }

    /// The worker can't take a message with the body in it; it can still read the bytes (HTTP-34).
    fn call_without_body(&mut self, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        pending.body = Body::Stream;
        if let Target::Route(entry) = &pending.target
            && cx.warns_first(&entry.route.trigger_id)
        {
            let function_id = &*entry.route.function_id;
            tracing::warn!(
                function_id,
                "a JSON body is too large for the worker's SDK; sent as `null`, readable as a stream"
            );
        }
        self.call(Kind::Handler, cx);
    }

    pub(super) fn respond_failure(&mut self, failure: &Failure, cx: &mut Context<'_>) {
        let Some(pending) = &self.pending else { return };
        let error_id = Some(cx.error_id());
        let (namespace, function_id) = pending.callee();
        let mut message = failure.message.as_str();
        let missing;
        if failure.code == codes::FUNCTION_NOT_FOUND {
            // Without the hint that workers get (HTTP-53).
            missing = format!("Function {function_id} not found in namespace {namespace}");
            if message.starts_with(&missing) {
                message = &missing;
            }
        }
        let response = Response::error(500, &failure.code, message, error_id);
        self.respond(response, cx);
    }

    /// Something is due: the response, a writer, or the end of one.
    pub(super) fn handle_due(&mut self, now_ms: u64, cx: &mut Context<'_>) {
        let Some(pending) = &self.pending else { return };
        if pending.is_streaming() {
            return self.end_stream(cx);
        }
        let lost = pending.download.as_ref().is_some_and(|download| download.ended.is_some());
        if pending.grace_ms <= now_ms && lost {
            self.commit(cx);
            return self.end_stream(cx);
        }
        match pending.step {
            _ if pending.grace_ms <= now_ms => self.respond(Response::empty(204), cx),
            Step::Global(_) | Step::Condition | Step::Route(_) => self.respond(Response::middleware_timeout(), cx),
            _ => self.respond(Response::timeout(), cx),
        }
    }
}

impl Pending {
    /// Whether the body travels in the message.
    fn has_value(&self) -> bool {
        matches!(self.body, Body::Json(..))
    }
}

// === impl Connection: channels ===

impl Connection {
    pub(super) fn handle_upload(&mut self, event: ChannelEvent, cx: &mut Context<'_>) {
        let Some(Pending { upload: Some(upload), body, .. }) = &mut self.pending else { return };
        match event {
            ChannelEvent::Joined => {
                upload.handle_joined(cx.host);
                if matches!(body, Body::Stream) {
                    self.exchange.read_body();
                }
            }
            ChannelEvent::Taken(amount) => upload.handle_taken(amount, cx.host),
            ChannelEvent::Unwanted | ChannelEvent::Expired => upload.handle_unwanted(),
            ChannelEvent::Message(_) | ChannelEvent::Ended(_) => {}
        }
    }

    pub(super) fn handle_download(&mut self, event: ChannelEvent, cx: &mut Context<'_>) {
        let Some(Pending { download: Some(download), grace_ms, call, .. }) = &mut self.pending else { return };
        match event {
            ChannelEvent::Joined => {
                download.joined = true;
                *grace_ms = u64::MAX;
            }
            ChannelEvent::Message(piece) => {
                download.note(piece.bytes.len());
                match &mut download.head {
                    Some(head) if piece.text => head.handle_text(&piece.bytes),
                    _ if piece.text => {}
                    Some(_) => {
                        self.commit(cx);
                        self.exchange.respond_chunk(piece.bytes.into_vec());
                    }
                    None => self.exchange.respond_chunk(piece.bytes.into_vec()),
                }
                let has_room = cx.host.unsent_bytes(self.socket) + self.exchange.output_bytes() < OUTPUT_BYTES_HIGH;
                if has_room && let Some(Pending { download: Some(download), .. }) = &mut self.pending {
                    download.take(cx.host);
                }
            }
            ChannelEvent::Ended(leaving) => {
                download.ended = Some(leaving);
                if leaving == Leaving::Lost && call.is_some() {
                    // Its function may have gone down with it; then this is no clean end.
                    *grace_ms = cx.host.now().ms + LOST_WRITER_GRACE_MS;
                } else {
                    self.commit(cx);
                    self.end_stream(cx);
                }
            }
            ChannelEvent::Taken(_) | ChannelEvent::Unwanted | ChannelEvent::Expired => {}
        }
    }

    /// Sends the head of a streamed response, unless it has been sent.
    fn commit(&mut self, cx: &mut Context<'_>) {
        let Some(Pending { download: Some(download), .. }) = &mut self.pending else { return };
        if let Some(head) = download.head.take() {
            self.respond_head(head.into_head(), cx);
        }
    }

    fn end_stream(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        self.exchange.respond_end(now);
        self.finish(cx);
    }

    /// Ends a streamed response such that nobody takes it for a complete one.
    fn break_off(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        self.exchange.respond_abort(now);
        self.finish(cx);
    }
}
