//! A run: round after round a fault, and the time until everything is committed again, of a relay alone or of a
//! cluster.

use crate::first_with;
use crate::report::Report;
use crate::stage::Stage;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::BufReader;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Up to this long everything runs well before each fault.
const BETWEEN_MS: u64 = 1_000;
/// Of this many rounds a rare fault has one.
const RARE: usize = 100;

/// A set of faults.
pub trait Faults: Copy + Debug + Ord + 'static {
    const ALL: &'static [Self];

    fn name(self) -> String {
        format!("{self:?}")
    }

    /// It takes more than a minute.
    fn is_rare(self) -> bool {
        false
    }

    /// Those of these names, with commas between them.
    fn named(names: &str) -> Vec<Self> {
        let named = |name: &str| Self::ALL.iter().copied().find(|fault| fault.name() == name);
        names.split(',').map(|name| named(name).unwrap_or_else(|| panic!("{name} is no fault"))).collect()
    }

    /// Each of these faults once, in some order, and again: all rounds together see each of them as often, give or take
    /// one. Rare ones come once in a hundred rounds.
    fn rounds(faults: &[Self], count: usize, chance: &mut StdRng) -> Vec<Self> {
        let mut rounds = Vec::new();
        while rounds.len() < count {
            let mut deck = faults.to_vec();
            if !rounds.is_empty() && deck.len() > 1 && rounds.len() / RARE == (rounds.len() + deck.len()) / RARE {
                deck.retain(|fault| !fault.is_rare());
            }
            deck.shuffle(chance);
            rounds.extend(deck);
        }
        rounds.truncate(count);
        rounds
    }
}

/// What a run does with a stage.
pub trait Play {
    type Fault: Faults;

    /// Does it; the relays may still have to recover when this returns.
    async fn strike(&mut self, fault: Self::Fault);

    /// Waits until the relays are ready and everything that was issued until now is committed; answers how long that
    /// took.
    async fn recovered(&mut self) -> Result<Duration, String>;

    /// Ends every relay in order.
    async fn drain(&mut self);
}

/// Plays each fault once, or what the environment asks for, on the stage that `open` makes of a seed and a folder for
/// logs.
pub async fn run<R>(title: &str, open: impl AsyncFnOnce(u64, &Path) -> Stage<R>)
where
    Stage<R>: Play,
{
    let all = <Stage<R> as Play>::Fault::ALL;
    let faults = variable("CHAOS_FAULTS").map_or_else(|| all.to_vec(), |names| Faults::named(&names));
    let rounds = number("CHAOS_ROUNDS").map_or(all.len(), |rounds| usize::try_from(rounds).expect("rounds"));
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/chaos");
    let dir = root.join(format!("{title}-{}-{seed}", std::process::id()));
    fs::create_dir_all(&dir).expect("target/chaos");
    eprintln!("CHAOS_SEED={seed}: {title}, {rounds} rounds, logs in {}", dir.display());

    // The clients of this process have no TLS to speak, and do not start without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let began = Instant::now();
    let mut stage = open(seed, &dir).await;
    let mut survived = Vec::new();
    let mut failure = None;
    for (fault, number) in Faults::rounds(&faults, rounds, &mut StdRng::seed_from_u64(seed)).into_iter().zip(1..) {
        stage.mark().await;
        stage.some_time(0, BETWEEN_MS).await;
        stage.strike(fault).await;
        match stage.recovered().await {
            Ok(recovery) => {
                eprintln!("{title} {number:>5}/{rounds} {:32} {:>7.2} s", fault.name(), recovery.as_secs_f64());
                survived.push((fault, recovery));
            }
            Err(why) => {
                // Kafka may be what failed.
                let aftermath = tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(|| stage.aftermath())));
                let aftermath = aftermath.unwrap_or_else(|_| "nothing more is known of it\n".to_owned());
                failure = Some(format!("{title}, round {number}, {}, {why}{aftermath}", fault.name()));
                break;
            }
        }
    }
    let outcome = if failure.is_some() {
        stage.outcome()
    } else {
        let issued = stage.tell().await;
        stage.drain().await;
        stage.close(issued).await
    };
    let report = Report { title: title.to_owned(), seed, rounds: survived, outcome, took: began.elapsed() };
    println!("{}", report.table());
    if let Some(folder) = variable("CHAOS_REPORT").map(PathBuf::from) {
        fs::create_dir_all(&folder).expect("a folder for reports");
        fs::write(folder.join(format!("{title}.json")), format!("{:#}\n", report.json())).expect("the report");
    }
    let verdict = &report.outcome.verdict;
    let failure = failure.or_else(|| Some(verdict.to_string()).filter(|_| !verdict.is_clean()));
    if let Some(failure) = failure {
        panic!("CHAOS_SEED={seed}, {failure}logs in {}", dir.display());
    }
    let unsaid = stage.unsaid();
    drop(stage);
    for log in logs(&dir) {
        let told = first_with(BufReader::new(File::open(&log).expect("a log")), &unsaid);
        assert_eq!(told, None, "{} tells what no log may", log.display());
    }
    drop(fs::remove_dir_all(&dir));
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).expect("target/chaos").map(|entry| entry.expect("target/chaos").path());
    let logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    assert!(logs.len() > 1, "{logs:?}");
    logs
}

#[expect(clippy::disallowed_methods, reason = "what to run is not a setting of the relay")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
