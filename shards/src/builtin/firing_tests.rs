//! Triggers that fire: conditions, order, outcomes.

use super::*;
use crate::builtin::fake::{FakeHost, Made};

fn target(id: &str, config: &str) -> Target {
    Target::new(Arc::new(Binding {
        id: id.into(),
        trigger_type: "state".into(),
        namespace: "shop".into(),
        function_id: "f".into(),
        config: config.as_bytes().into(),
        metadata: Some((*b"{\"m\":1}").into()),
        trigger_namespace: None,
        home: "shop".into(),
        registrant: None,
    }))
}

fn with_condition(id: &str) -> Target {
    target(id, r#"{"condition_function_id":"ask"}"#)
}

fn data(text: &str) -> Rc<[u8]> {
    text.as_bytes().into()
}

fn only(host: &mut FakeHost) -> Made {
    let made = host.take_made();
    assert_eq!(made.len(), 1, "{made:?}");
    made.into_iter().next().expect("one call")
}

fn failure() -> Failure {
    Failure::new("function_not_found", "no such function")
}

// CRON-10, PUBSUB-2, STATE-40: the member is a string or it is not there.
#[test]
fn a_condition_is_a_string_with_something_in_it() {
    for config in ["{}", "null", "", "[]", r#"{"condition_function_id":null}"#, r#"{"condition_function_id":""}"#] {
        assert_eq!(target("t", config).condition, None, "{config}");
    }
    assert_eq!(with_condition("t").condition.as_deref(), Some("ask"));
}

// CRON-21, STATE-44, QUEUE-50, HTTP-39, PUBSUB-DB-3
#[test]
fn only_the_value_false_says_no() {
    assert_eq!(verdict(Ok(b"false".to_vec())), Verdict::No);
    assert_eq!(verdict(Ok(b" false\n".to_vec())), Verdict::No);
    for yes in ["null", "", "0", "\"false\"", "{}", "true", "[false]", r#"{"a":false}"#] {
        assert_eq!(verdict(Ok(yes.as_bytes().to_vec())), Verdict::Yes, "{yes}");
    }
    assert_eq!(verdict(Err(failure())), Verdict::Failed(failure()));
}

#[test]
fn without_a_condition_the_function_is_called_at_once() {
    let (mut host, mut firing) = (FakeHost::default(), Firing::default());
    let payload = data("{\"n\":1}");
    let run = Run { traceparent: Some("00-a-b-01"), baggage: Some("k=v"), timeout_ms: Some(50), ..Run::new(&payload) };
    firing.fire(&mut host, &target("t", "{}"), &run, 7);
    let made = only(&mut host);
    let expected = Made {
        token: made.token,
        namespace: "shop".into(),
        function_id: "f".into(),
        data: "{\"n\":1}".into(),
        metadata: Some("{\"m\":1}".into()),
        traceparent: Some("00-a-b-01".into()),
        baggage: Some("k=v".into()),
        prefer: None,
        timeout_ms: Some(50),
    };
    assert_eq!(made, expected);
    assert_eq!((firing.poll_ended(), firing.under_way()), (None, 1));
    let token = made.token.expect("tracked");
    assert_eq!(firing.answer(&mut host, token, Ok(b"2".to_vec())), Ok(()));
    assert_eq!((firing.poll_ended(), firing.under_way()), (Some((7, End::Ran(Ok(b"2".to_vec())))), 0));
}

#[test]
fn a_run_nobody_waits_for_ends_when_it_is_sent() {
    let (mut host, mut firing) = (FakeHost::default(), Firing::default());
    let payload = data("1");
    firing.fire(&mut host, &target("t", "{}"), &Run { tracked: false, ..Run::new(&payload) }, 7);
    assert_eq!(only(&mut host).token, None);
    assert_eq!(firing.poll_ended(), Some((7, End::Sent)));
}

#[test]
fn the_condition_gets_the_payload_and_the_trace_and_decides() {
    let answers = [
        (Ok(b"null".to_vec()), None),
        (Ok(b"false".to_vec()), Some(End::Skipped)),
        (Err(failure()), Some(End::ConditionFailed(failure()))),
    ];
    for (answer, end) in answers {
        let (mut host, mut firing) = (FakeHost::default(), Firing::default());
        let payload = data("[1]");
        let run = Run { traceparent: Some("00-a-b-01"), ..Run::new(&payload) };
        firing.fire(&mut host, &with_condition("t"), &run, "tag");
        let asked = only(&mut host);
        assert_eq!((asked.namespace.as_str(), asked.function_id.as_str()), ("shop", "ask"));
        assert_eq!((asked.data.as_str(), asked.metadata.as_deref()), ("[1]", None));
        assert_eq!(asked.traceparent.as_deref(), Some("00-a-b-01"));
        assert_eq!(firing.answer(&mut host, asked.token.expect("tracked"), answer), Ok(()));
        match end {
            Some(end) => {
                assert_eq!(firing.poll_ended(), Some(("tag", end)));
                assert_eq!(host.take_made(), [], "the function was called");
            }
            None => {
                let ran = only(&mut host);
                assert_eq!((ran.function_id.as_str(), ran.data.as_str()), ("f", "[1]"));
                assert_eq!(
                    (ran.metadata.as_deref(), ran.traceparent.as_deref()),
                    (Some("{\"m\":1}"), asked.traceparent.as_deref())
                );
                assert_eq!(firing.poll_ended(), None);
            }
        }
    }
}

#[test]
fn answers_of_other_calls_are_given_back() {
    let (mut host, mut firing) = (FakeHost::default(), Firing::<()>::default());
    assert_eq!(firing.answer(&mut host, Token(9), Ok(b"1".to_vec())), Err(Ok(b"1".to_vec())));
}

/// Fires 1, 2, 3 and answers their conditions in the order 3, 1, 2 with these; gives back the payloads that ran.
fn out_of_order(ordered: bool, answers: [&str; 3]) -> (Vec<String>, Vec<(u32, End)>) {
    let (mut host, mut firing) = (FakeHost::default(), Firing::default());
    for n in 1..=3 {
        let payload = data(&n.to_string());
        firing.fire(&mut host, &with_condition("t"), &Run { tracked: false, ordered, ..Run::new(&payload) }, n);
    }
    let tokens: Vec<Token> = host.take_made().iter().filter_map(|made| made.token).collect();
    for n in [2, 0, 1] {
        firing.answer(&mut host, tokens[n], Ok(answers[n].as_bytes().to_vec())).expect("ours");
    }
    assert_eq!(firing.under_way(), 0);
    (host.take_made().into_iter().map(|made| made.data).collect(), std::iter::from_fn(|| firing.poll_ended()).collect())
}

// PUBSUB-DB-5; decision 16: each trigger is sent the events of one key in order.
#[test]
fn a_trigger_keeps_its_order_if_asked() {
    let (ran, ended) = out_of_order(true, ["true", "false", "true"]);
    assert_eq!(ran, ["1", "3"]);
    assert_eq!(ended, [(1, End::Sent), (2, End::Skipped), (3, End::Sent)]);
    let (ran, _) = out_of_order(false, ["true", "true", "true"]);
    assert_eq!(ran, ["3", "1", "2"]);
}

// A trigger that was replaced by one without condition still waits for what came before it.
#[test]
fn a_fire_without_condition_waits_for_its_lane() {
    let (mut host, mut firing) = (FakeHost::default(), Firing::default());
    for (n, target) in [(1, with_condition("t")), (2, target("t", "{}")), (3, target("other", "{}"))] {
        let payload = data(&n.to_string());
        firing.fire(&mut host, &target, &Run { ordered: true, tracked: false, ..Run::new(&payload) }, n);
    }
    let made = host.take_made();
    assert_eq!(made.iter().map(|made| made.data.as_str()).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(firing.under_way(), 2);
    firing.answer(&mut host, made[0].token.expect("tracked"), Ok(b"null".to_vec())).expect("ours");
    assert_eq!(host.take_made().len(), 2);
}
