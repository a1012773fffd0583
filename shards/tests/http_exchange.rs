//! One HTTP/1.1 connection from its peer's side, in virtual time: what is sent, what comes back, when it ends.

use iii_shards::http::date::HttpDate;
use iii_shards::http::exchange::{Closing, Deadline, DeadlineKind, Event, Exchange, Now, Patience};
use iii_shards::http::head::{BodyLength, Reject};
use iii_shards::http::response::Response;
use iii_shards::http::stream::StreamHead;
use proptest::prelude::*;

fn at(ms: u64) -> Now {
    Now { ms, date: HttpDate::from_unix_seconds(0) }
}

const DATE: &str = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

/// A connection and what came out of it.
struct Peer {
    exchange: Exchange,
    ms: u64,
}

impl Peer {
    fn new() -> Peer {
        Peer { exchange: Exchange::new(at(0), Patience::default()), ms: 0 }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Peer {
        self.exchange.handle_bytes(at(self.ms), bytes.as_ref());
        self
    }

    fn wait(&mut self, ms: u64) -> &mut Peer {
        self.ms += ms;
        self.exchange.handle_time(at(self.ms));
        self
    }

    /// Everything that happens now, adjacent pieces of a body joined.
    fn events(&mut self) -> Vec<String> {
        let mut events: Vec<String> = Vec::new();
        while let Some(event) = self.exchange.poll_event() {
            match event {
                Event::Request(request) => {
                    events.push(format!("{} {}", request.head().method_name(), text(request.head().path())));
                }
                Event::BodyChunk(data) => match events.last_mut() {
                    Some(last) if last.starts_with("body ") => last.push_str(&text(data)),
                    _ => events.push(format!("body {}", text(data))),
                },
                Event::BodyEnd => events.push("end".to_owned()),
                Event::Reject(reject) => events.push(format!("{reject:?}")),
            }
        }
        events
    }

    fn respond(&mut self, body: &str) -> &mut Peer {
        let response = Response::from_result(body.as_bytes(), 1).head;
        let response = Response { head: response, body: body.as_bytes().into() };
        self.exchange.respond(at(self.ms), response, b"");
        self
    }

    fn output(&mut self) -> String {
        let output: Vec<u8> = std::iter::from_fn(|| self.exchange.poll_output()).flatten().collect();
        assert_eq!(self.exchange.output_bytes(), 0);
        text(&output)
    }

    fn deadline(&self) -> Option<(u64, DeadlineKind)> {
        self.exchange.deadline().map(|Deadline { at_ms, kind }| (at_ms, kind))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: h\r\n\r\n";
const POST: &str = "POST /b HTTP/1.1\r\ncontent-length: 5\r\n\r\n";
const UPLOAD: &str = "POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn a_pipelined_request_waits_for_the_response_before_it() {
    // HTTP-68
    let mut peer = Peer::new();
    assert_eq!(peer.send(GET.to_owned() + POST + "hello" + GET).events(), ["GET /a"]);
    peer.respond("1");
    assert_eq!(peer.events(), ["POST /b"]);
    peer.exchange.read_body();
    assert_eq!(peer.events(), ["body hello", "end"]);
    peer.respond("22");
    assert_eq!(peer.events(), ["GET /a"]);
    peer.respond("333");
    assert_eq!(peer.events(), [""; 0]);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
    assert_eq!(peer.output(), format!("{head}1\r\n{DATE}1{head}2\r\n{DATE}22{head}3\r\n{DATE}333"));
    assert_eq!(peer.exchange.closing(), Closing::Open);
}

#[test]
fn a_pipelining_flood_stops_being_read() {
    // T17
    let mut peer = Peer::new();
    peer.send(GET).events();
    for _ in 0..40 {
        assert!(peer.exchange.wants_input());
        peer.send("x".repeat(1700));
        if peer.exchange.wants_input() {
            continue;
        }
        return;
    }
    panic!("always wants more");
}

#[test]
fn connections_close_when_the_client_or_the_version_says_so() {
    // HTTP-68; case 26
    for (request, closing, line) in [
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n", Closing::Close, "HTTP/1.1 200 OK\r\n"),
        ("GET / HTTP/1.0\r\n\r\n", Closing::Close, "HTTP/1.0 200 OK\r\n"),
        ("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", Closing::Open, "HTTP/1.0 200 OK\r\n"),
        ("GET / HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", Closing::Open, "HTTP/1.1 200 OK\r\n"),
    ] {
        let mut peer = Peer::new();
        peer.send(request).events();
        let output = peer.respond("1").output();
        assert!(output.starts_with(line), "{output}");
        assert_eq!(output.contains("connection: close"), closing == Closing::Close);
        assert_eq!(peer.exchange.closing(), closing);
    }
}

#[test]
fn head_responses_have_no_body() {
    // HTTP-55; case 17
    let mut peer = Peer::new();
    assert_eq!(peer.send("HEAD /h HTTP/1.1\r\n\r\n").events(), ["HEAD /h"]);
    let output = peer.respond("{\"ok\":true}").output();
    assert!(output.contains("content-length: 11\r\n") && output.ends_with(DATE), "{output}");
    assert_eq!(peer.send(GET).events(), ["GET /a"]);
}

#[test]
fn streamed_responses() {
    // HTTP-57; cases 42, 43, S7, S9
    let stream = |request: &str, status: u16, parts: &[&str]| {
        let mut peer = Peer::new();
        peer.send(request).events();
        let mut head = StreamHead::default();
        head.handle_text(format!("{{\"type\":\"set_status\",\"status_code\":{status}}}").as_bytes());
        peer.exchange.respond_head(at(0), &head.into_head(), b"", None);
        for part in parts {
            peer.exchange.respond_chunk(part.as_bytes());
        }
        peer.exchange.respond_end(at(0));
        (peer.output(), peer.exchange.closing())
    };
    let chunked = format!("transfer-encoding: chunked\r\n{DATE}");
    assert_eq!(
        stream(GET, 201, &["ab", "", "cde"]),
        (format!("HTTP/1.1 201 Created\r\n{chunked}2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), Closing::Open)
    );
    assert_eq!(stream(GET, 404, &[]), (format!("HTTP/1.1 404 Not Found\r\n{chunked}0\r\n\r\n"), Closing::Open));
    assert_eq!(stream(GET, 204, &["x"]), (format!("HTTP/1.1 204 No Content\r\n{DATE}"), Closing::Open));
    assert_eq!(
        stream("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", 200, &["ab", "c"]),
        (format!("HTTP/1.0 200 OK\r\nconnection: close\r\n{DATE}abc"), Closing::Close)
    );
    let (large, _) = stream(GET, 200, &["y".repeat(100_000).as_str()]);
    assert!(large.contains("\r\n\r\n186a0\r\nyyy") && large.ends_with("yyy\r\n0\r\n\r\n"));
}

#[test]
fn a_streamed_response_given_up_lacks_its_end() {
    // HTTP-58; case S14
    for (request, closing) in [(GET, Closing::Close), ("GET / HTTP/1.0\r\n\r\n", Closing::Reset)] {
        let mut peer = Peer::new();
        peer.send(request).events();
        peer.exchange.respond_head(at(0), &StreamHead::default().into_head(), b"", None);
        peer.exchange.respond_chunk(&b"part"[..]);
        peer.exchange.respond_abort(at(0));
        peer.exchange.respond_chunk(&b"late"[..]);
        peer.exchange.respond_end(at(0));
        let output = peer.output();
        assert!(output.contains("part") && !output.contains("0\r\n\r\n") && !output.contains("late"), "{output}");
        assert_eq!(peer.exchange.closing(), closing);
    }
}

#[test]
fn a_client_that_asks_is_told_to_continue() {
    // HTTP-33
    let request = "POST /e HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 2\r\n\r\n";
    let mut peer = Peer::new();
    assert_eq!(peer.send(request).events(), ["POST /e"]);
    assert_eq!((peer.output().as_str(), peer.deadline()), ("", None));
    peer.exchange.read_body();
    assert_eq!(peer.output(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(peer.send("hi").events(), ["body hi", "end"]);
    assert!(peer.respond("1").output().starts_with("HTTP/1.1 200 OK"));
    assert_eq!(peer.exchange.closing(), Closing::Open);

    // The body was sent without waiting.
    let mut eager = Peer::new();
    eager.send(request.to_owned() + "hi").events();
    eager.exchange.read_body();
    assert_eq!((eager.events(), eager.output()), (vec!["body hi".to_owned(), "end".to_owned()], String::new()));

    // Nobody wanted it: whether it comes is open, so the connection ends.
    let mut refused = Peer::new();
    refused.send(request).events();
    let output = refused.respond("1").output();
    assert!(output.contains("connection: close") && !output.contains("Continue"), "{output}");
    assert_eq!(refused.exchange.closing(), Closing::Linger);
}

#[test]
fn unread_bodies_are_thrown_away_within_bounds() {
    // HTTP-32, HTTP-70
    let mut peer = Peer::new();
    assert_eq!(peer.send(POST.to_owned() + "he").events(), ["POST /b"]);
    peer.respond("1");
    assert_eq!(peer.deadline(), Some((5_000, DeadlineKind::Drain)));
    assert_eq!(peer.send("llo".to_owned() + GET).events(), ["GET /a"]);

    // Too long, and known to be: the client is told in the head.
    let mut long = Peer::new();
    long.send("POST /b HTTP/1.1\r\ncontent-length: 31457280\r\n\r\nxx").events();
    assert!(long.respond("1").output().contains("connection: close"));
    assert_eq!(long.exchange.closing(), Closing::Linger);
    assert!(long.exchange.wants_input() && long.send(GET).events().is_empty());
    assert_eq!(long.deadline(), Some((2_000, DeadlineKind::Linger)));
    assert_eq!(long.wait(2_000).exchange.closing(), Closing::Close);

    // Too long, but nobody knew.
    let mut chunked = Peer::new();
    chunked.send(UPLOAD).events();
    assert!(!chunked.respond("1").output().contains("connection: close"));
    for _ in 0..17 {
        chunked.send(format!("10000\r\n{}\r\n", "x".repeat(65_536)));
    }
    assert_eq!(chunked.exchange.closing(), Closing::Linger);

    // Too slow.
    let mut slow = Peer::new();
    slow.send(UPLOAD).events();
    slow.respond("1");
    assert_eq!(slow.wait(5_000).exchange.closing(), Closing::Linger);
}

#[test]
fn slow_heads_and_idle_connections_end() {
    // HTTP-69, T17
    let mut idle = Peer::new();
    assert_eq!(idle.deadline(), Some((75_000, DeadlineKind::Idle)));
    assert_eq!(idle.wait(75_000).exchange.closing(), Closing::Close);
    assert_eq!(idle.output(), "");

    let mut slow = Peer::new();
    slow.wait(1_000).send("G").events();
    slow.wait(29_000).send("ET /").events();
    assert_eq!(slow.deadline(), Some((31_000, DeadlineKind::Head)));
    assert_eq!(slow.wait(1_000).events(), [format!("{:?}", Reject::TooSlow)]);
    assert!(slow.output().starts_with("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n"));
    assert_eq!(slow.exchange.closing(), Closing::Linger);
}

#[test]
fn slow_bodies_end_and_slow_handlers_do_not_matter() {
    // T17
    let trickle = |bytes: usize, steps: u32| {
        let mut peer = Peer::new();
        peer.send("POST /b HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n").events();
        peer.exchange.read_body();
        for _ in 0..steps {
            peer.wait(5_000).send("x".repeat(bytes)).events();
            peer.wait(5_000);
        }
        peer.exchange.closing()
    };
    assert_eq!(trickle(1024, 9), Closing::Open);
    assert_eq!(trickle(1023, 1), Closing::Linger);

    // All is here, but nobody takes it for an hour.
    let mut waiting = Peer::new();
    waiting.send(POST.to_owned() + "hello").events();
    for _ in 0..3_600 {
        waiting.wait(1_000);
    }
    waiting.exchange.read_body();
    assert_eq!(waiting.events(), ["body hello", "end"]);
    assert_eq!(waiting.deadline(), None, "a handler has its own time limit");

    // Too slow while the response is under way: it is cut short, not replaced.
    let mut late = Peer::new();
    late.send(UPLOAD).events();
    late.exchange.read_body();
    late.exchange.respond_head(at(0), &StreamHead::default().into_head(), b"", None);
    late.wait(10_000);
    assert_eq!(late.events(), [format!("{:?}", Reject::TooSlow)]);
    assert!(!late.output().contains("408"));
    assert_eq!(late.exchange.closing(), Closing::Close);
}

#[test]
fn a_body_is_read_no_faster_than_it_is_taken() {
    // HTTP-32
    let mut peer = Peer::new();
    peer.send("POST /b HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n").events();
    peer.send("x".repeat(64 << 10));
    assert!(!peer.exchange.wants_input());
    peer.exchange.read_body();
    assert_eq!(peer.events()[0].len(), 5 + (64 << 10));
    assert!(peer.exchange.wants_input());
}

#[test]
fn bad_chunks_end_an_open_request() {
    let mut peer = Peer::new();
    peer.send(UPLOAD).events();
    peer.exchange.read_body();
    let events = peer.send(format!("2\r\nhi\r\nzz\r\n{GET}")).events();
    assert_eq!(events[0], "body hi");
    assert!(events.len() == 2 && events[1].starts_with("Malformed"), "{events:?}");
    // The handler's answer comes too late.
    let output = peer.respond("1").output();
    assert!(output.starts_with("HTTP/1.1 400 Bad Request\r\n") && output.matches("HTTP/1.1").count() == 1);
    assert_eq!(peer.exchange.closing(), Closing::Linger);
}

#[test]
fn a_client_that_half_closes_is_still_answered() {
    let mut peer = Peer::new();
    peer.send(GET.to_owned() + GET);
    peer.exchange.handle_end(at(0));
    assert_eq!(peer.events(), ["GET /a"]);
    peer.respond("1");
    assert_eq!(peer.events(), ["GET /a"]);
    assert_eq!(peer.exchange.closing(), Closing::Open);
    peer.respond("1");
    assert_eq!((peer.output().matches("200 OK").count(), peer.exchange.closing()), (2, Closing::Close));

    // But half a request is none.
    for (sent, status) in [("", ""), ("GET /", ""), ("POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc", "400")] {
        let mut peer = Peer::new();
        peer.send(sent).events();
        peer.exchange.read_body();
        peer.exchange.handle_end(at(0));
        peer.events();
        assert!(peer.output().contains(status));
        assert_eq!(peer.exchange.closing(), Closing::Close, "{sent}");
    }
}

#[test]
fn a_server_that_shuts_down_finishes_what_is_open() {
    // HTTP-7, HTTP-9
    let mut idle = Peer::new();
    idle.exchange.shut_down(at(0));
    assert_eq!(idle.exchange.closing(), Closing::Close);

    let mut busy = Peer::new();
    busy.send(GET).events();
    busy.exchange.shut_down(at(0));
    assert_eq!(busy.exchange.closing(), Closing::Open);
    assert!(busy.respond("1").output().contains("connection: close"));
    assert_eq!(busy.exchange.closing(), Closing::Close);
}

#[test]
fn refusals_without_an_answer_and_with_others() {
    // HTTP-10, HTTP-51
    let mut h2 = Peer::new();
    assert_eq!(h2.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").events(), ["Http2"]);
    assert_eq!((h2.output().as_str(), h2.exchange.closing()), ("", Closing::Reset));
    for (sent, status) in [
        (format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(65_534)), "414 URI Too Long"),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)), "431 Request Header Fields Too Large"),
    ] {
        let mut peer = Peer::new();
        assert_eq!(peer.send(sent).events().len(), 1);
        assert!(peer.output().starts_with(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n")));
    }
}

#[test]
fn large_owned_bodies_are_not_copied() {
    let mut peer = Peer::new();
    peer.send(GET).events();
    let body = vec![b'x'; 1 << 20];
    let address = body.as_ptr();
    peer.exchange.respond(at(0), Response::json(200, body), b"");
    let parts: Vec<_> = std::iter::from_fn(|| peer.exchange.poll_output()).collect();
    assert_eq!((parts.len(), parts[1].as_ptr()), (2, address));
}

/// How the scripted handler deals with a request.
#[derive(Debug, Clone, Copy)]
enum Handler {
    ReadsThenAnswers,
    AnswersAtOnce,
    StreamsWhileReading,
}

/// All events and all output for input that arrives in these pieces.
fn converse(pieces: &[&[u8]], handler: Handler) -> (Vec<String>, String, Closing) {
    let mut peer = Peer::new();
    let mut log: Vec<String> = Vec::new();
    for piece in pieces {
        peer.exchange.handle_bytes(at(0), piece);
        loop {
            let answer = match peer.exchange.poll_event() {
                None => break,
                Some(Event::Request(request)) => {
                    let head = request.head();
                    let headers: Vec<_> = head.headers().map(|(name, value)| text(name) + "=" + &text(value)).collect();
                    log.push(format!("{} {} {headers:?} {:?}", head.method_name(), text(head.path()), head.body()));
                    match handler {
                        Handler::ReadsThenAnswers => peer.exchange.read_body(),
                        Handler::AnswersAtOnce => {}
                        Handler::StreamsWhileReading => {
                            peer.exchange.read_body();
                            peer.exchange.respond_head(at(0), &StreamHead::default().into_head(), b"", None);
                        }
                    }
                    head.body() == BodyLength::None || matches!(handler, Handler::AnswersAtOnce)
                }
                Some(Event::BodyChunk(data)) => {
                    let data = text(data);
                    match log.last_mut() {
                        Some(last) if last.starts_with("body ") => last.push_str(&data),
                        _ => log.push(format!("body {data}")),
                    }
                    false
                }
                Some(Event::BodyEnd) => {
                    log.push("end".to_owned());
                    true
                }
                Some(Event::Reject(reject)) => {
                    log.push(format!("{reject:?}"));
                    false
                }
            };
            if answer && peer.exchange.awaits_response() {
                peer.exchange.respond(at(0), Response::json(200, b"{}".to_vec()), b"");
            } else if answer {
                peer.exchange.respond_chunk(&b"done"[..]);
                peer.exchange.respond_end(at(0));
            }
        }
    }
    (log, peer.output(), peer.exchange.closing())
}

fn any_request() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(GET.to_owned()),
        4 => "[a-z\r\n]{5}".prop_map(|body| POST.to_owned() + &body),
        4 => prop::collection::vec("[a-z\r\n]{1,20}", 0..4).prop_map(|chunks| {
            let chunks: String = chunks.iter().map(|chunk| format!("{:x};e\r\n{chunk}\r\n", chunk.len())).collect();
            format!("{UPLOAD}{chunks}0\r\nt: 1\r\n\r\n")
        }),
        1 => Just("HEAD /h HTTP/1.1\r\nX-A:\t b \r\n\r\n".to_owned()),
        1 => Just("\r\nGET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n".to_owned()),
        1 => Just("GET / HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned()),
        1 => "[ -~\r\n]{0,60}".prop_map(|noise| format!("GET /{noise}\r\n\r\n")),
        1 => "[0-9a-f\r\n;]{0,30}".prop_map(|noise| format!("{UPLOAD}{noise}")),
        1 => Just(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101))),
    ]
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_conversation(
        requests in prop::collection::vec(any_request(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        handler in prop_oneof![
            Just(Handler::ReadsThenAnswers), Just(Handler::AnswersAtOnce), Just(Handler::StreamsWhileReading)
        ],
    ) {
        let wire = requests.concat().into_bytes();
        let whole = converse(&[&wire], handler);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).chain([0, wire.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]).collect();
        let split = converse(&pieces, handler);
        let bytewise = converse(&wire.chunks(1).collect::<Vec<_>>(), handler);
        prop_assert_eq!(&whole.0, &split.0);
        prop_assert_eq!(&whole.0, &bytewise.0);
        prop_assert_eq!(&whole.1, &split.1);
        prop_assert_eq!(&whole.1, &bytewise.1);
        // Whether to linger depends on whether anything has arrived behind the end, so only openness is compared.
        prop_assert_eq!(whole.2 == Closing::Open, bytewise.2 == Closing::Open);
    }

    #[test]
    fn noise_never_panics_and_stays_bounded(
        pieces in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            any_request().prop_map(String::into_bytes),
        ], 0..12),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        converse(&pieces, Handler::ReadsThenAnswers);
    }
}
