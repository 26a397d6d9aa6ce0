//! Several accounts in one planner.

use super::*;
use crate::kafka::Batch;
use crate::relay::progress::GapCause;

const A: Account = Account::at(0);
const B: Account = Account::at(1);
const C: Account = Account::at(2);

/// Accounts `a` and `b`.
fn planner() -> Planner {
    let settings = Settings::in_tests("desk");
    let known = |name: &str| Known { name: name.to_owned(), ..Known::default() };
    let window = Window::new(DAY, 1000, [1, 2]);
    Planner::new(settings, window, Versions::new(DAY, 1000, [3, 4]), vec![known("a"), known("b")])
}

fn delivery(account: Account, body: &str) -> Item {
    let (intake, mut receiver) = Intake::new(1 << 20);
    let of = intake.of(account, "x");
    of.offer(Leg::Websocket, body.to_owned().into(), NOW_MS).now_or_never().unwrap().unwrap();
    let mut arrived = Vec::new();
    receiver.drain(&mut arrived);
    item(arrived.remove(0))
}

/// A plan of these, sealed.
fn sealed(planner: &mut Planner, items: impl IntoIterator<Item = Item>) -> Plan {
    let mut plan = planner.begin(Plan::default());
    for item in items {
        assert!(planner.add(&mut plan, item, NOW).is_none(), "it is planned");
    }
    planner.seal(&mut plan);
    plan
}

fn keys(batch: &Batch, topic: Topic) -> Vec<String> {
    let records = batch.records().filter(|record| record.topic() == topic);
    records.map(|record| String::from_utf8_lossy(record.key()).into_owned()).collect()
}

fn cursors(planner: &Planner) -> Vec<Option<u64>> {
    planner.progress().map(|(_, progress)| progress.cursor().map(|id| id.ms)).collect()
}

#[test]
fn equal_ids_of_two_accounts_are_two_events() {
    let mut planner = planner();
    let id = format!("evt_{AT}-0");
    let plan = sealed(&mut planner, [delivery(A, &order(&id, "o1")), delivery(B, &order(&id, "o2"))]);
    let of = |wanted: &str| {
        let orders = plan.batch.records().filter(|record| record.topic() == Topic::Orders);
        orders.map(|record| header(record, wanted).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("relay_account"), ["a", "b"]);
    assert_eq!(of("ce_source"), ["/pepay/devnet/a", "/pepay/devnet/b"]);
    assert_eq!(keys(&plan.batch, Topic::Control), ["desk/journal", "desk/marks/a", "desk/marks/b"]);
    planner.commit(plan, NOW_MS, |_| ());
    let mut plan = planner.begin(Plan::default());
    let copy = planner.add(&mut plan, delivery(B, &order(&id, "o2")), NOW).unwrap().1;
    assert_eq!(copy.outcome, Outcome::Duplicate);
}

#[test]
fn only_the_marks_that_changed_are_written_until_they_are_committed() {
    let mut planner = planner();
    let first = sealed(&mut planner, []);
    planner.commit(first, NOW_MS, |_| ());
    let plan = sealed(&mut planner, [delivery(B, &order(&format!("evt_{AT}-1"), "o"))]);
    assert_eq!(keys(&plan.batch, Topic::Control), ["desk/journal", "desk/marks/b"]);
    let items: Vec<_> = planner.roll_back(plan).collect();
    assert_eq!(cursors(&planner), [None, None]);
    let plan = sealed(&mut planner, items);
    assert_eq!(keys(&plan.batch, Topic::Control), ["desk/journal", "desk/marks/b"]);
    planner.commit(plan, NOW_MS, |_| ());
    assert_eq!(keys(&sealed(&mut planner, []).batch, Topic::Control), [""; 0]);
}

/// A copy that needs no record changes the progress all the same, in a plan that is empty when a checkpoint goes.
#[test]
fn what_an_empty_plan_changed_is_taken_back_with_what_came_later() {
    let mut planner = planner();
    let [older, newer] = [1, 2].map(|seq| order(&format!("evt_{AT}-{seq}"), "o"));
    let plan = sealed(&mut planner, [delivery(A, &older)]);
    planner.commit(plan, NOW_MS, |_| ());
    let mut open = planner.begin(Plan::default());
    assert!(planner.add(&mut open, delivery(A, &older), NOW).is_some());
    let checkpoint = sealed(&mut planner, []);
    planner.commit(checkpoint, NOW_MS, |_| ());
    assert!(planner.add(&mut open, delivery(A, &newer), NOW).is_none());
    planner.seal(&mut open);
    assert_eq!(keys(&open.batch, Topic::Control), ["desk/journal", "desk/marks/a"]);
    let before = cursors(&planner);
    let items: Vec<_> = planner.roll_back(open).collect();
    let again = sealed(&mut planner, items);
    assert_eq!(cursors(&planner), before);
    assert_eq!(keys(&again.batch, Topic::Control), ["desk/journal", "desk/marks/a"]);
}

#[test]
fn an_account_comes_while_the_relay_runs_and_goes() {
    let mut planner = planner();
    let hour = Duration::from_hours(1);
    let (name, overlap) = ("c".to_owned(), Duration::ZERO);
    let admission = Arc::new(Admission { name, first_start: hour, overlap, served: true });
    let plan = sealed(&mut planner, [Item::Admitted(C, Arc::clone(&admission))]);
    let items: Vec<_> = planner.roll_back(plan).collect();
    let plan = sealed(&mut planner, items);
    let mut opened = Vec::new();
    planner.commit(plan, NOW_MS, |told| {
        if let Settled::GapOpened(account, gap) = told {
            opened.push((account, gap.cause, gap.opened_ms, gap.id));
        }
    });
    assert_eq!(opened, [(C, GapCause::FirstStart, NOW_MS - 3_600_000, 0)]);
    assert_eq!((planner.name(C), cursors(&planner).len()), ("c", 3));
    let plan = sealed(&mut planner, [Item::Note(C, Note::Retired), delivery(C, &order(&format!("evt_{AT}-3"), "o"))]);
    assert_eq!(keys(&plan.batch, Topic::Orders), ["o"], "what it brought before is published");
    planner.commit(plan, NOW_MS, |_| ());
    assert_eq!(cursors(&planner), [None, None], "it is not served");
    let plan = sealed(&mut planner, [Item::Admitted(C, admission)]);
    planner.commit(plan, NOW_MS, |told| {
        if let Settled::GapOpened(_, gap) = told {
            assert_eq!((gap.cause, gap.opened_ms, gap.id), (GapCause::Restart, NOW_MS - 3_600_000, 1));
        }
    });
    assert_eq!(cursors(&planner)[2], Some(AT.parse().unwrap()));
}
