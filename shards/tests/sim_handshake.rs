//! Situation: a client asks for a wrong path, keeps the connection, and says no more. Expectation: it is closed at the
//! handshake deadline, counted from the answer (PROTO-3, PROTO-7). Provoked by an answer that takes a while to send.

use iii_shards::sim::client::upgrade_request;
use iii_shards::sim::dice::Dice;
use iii_shards::sim::scenario::Scenario;

#[test]
fn an_answered_client_that_falls_silent_is_closed() {
    let mut scenario = Scenario::new(1);
    let link = scenario.world.connect(0);
    scenario.world.send(link, &upgrade_request("/nothing"));
    scenario.world.turn(0, &mut Dice::calm());
    // The socket takes the answer only half a second later.
    scenario.world.pass(500);
    scenario.settle();
    scenario.advance(9_000);
    assert_eq!(scenario.world.residue()[0].connections, 1);
    scenario.advance(2_000);
    assert_eq!(scenario.world.residue()[0].connections, 0);
    scenario.assert_nothing_left();
}
