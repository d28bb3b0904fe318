use super::*;

const FAILED: Sign = Sign::Failed(FaultKind::NotSent);

/// A health with a clock that is moved by hand.
struct Bed {
    health: Health,
    now: Instant,
}

impl Bed {
    fn new() -> Bed {
        Bed { health: Health::default(), now: Instant::now() }
    }

    fn pass(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
    }

    /// A call that ends so long after the last one.
    fn ends(&mut self, after: f64, sign: Sign) {
        self.pass(after);
        self.health.note("p", sign, self.now);
    }

    fn standing(&self) -> Standing {
        self.health.standing("p", self.now)
    }

    fn is_down(&self) -> bool {
        matches!(self.standing(), Standing::Down(..))
    }

    /// Fails until it is left alone, and returns for how long.
    fn goes_down(&mut self) -> Duration {
        for _ in 0..IN_A_ROW {
            self.ends(0.5, FAILED);
        }
        match self.standing() {
            Standing::Down(left, _) => left,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn five_in_a_row_are_an_outage() {
    let mut bed = Bed::new();
    for _ in 0..IN_A_ROW - 1 {
        bed.ends(0.5, FAILED);
    }
    assert!(!bed.is_down());
    bed.ends(0.5, FAILED);
    let Standing::Down(left, why) = bed.standing() else { panic!("it is down") };
    assert_eq!((left, why.as_str()), (RESTS.0, "its last 5 calls failed (not_sent)"));
    assert!(matches!(bed.health.standing("another", bed.now), Standing::Well));
}

#[test]
fn an_answer_in_between_is_none() {
    let mut bed = Bed::new();
    for _ in 0..8 {
        for _ in 0..IN_A_ROW - 4 {
            bed.ends(0.5, FAILED);
        }
        bed.ends(0.5, Sign::Answered(SPAN));
    }
    assert!(!bed.is_down(), "half of all is not more than half");
}

#[test]
fn more_than_half_of_many_are_an_outage() {
    let mut bed = Bed::new();
    let mut calls = 0;
    while !bed.is_down() {
        let sign = if calls % 3 == 0 { Sign::Answered(SPAN) } else { FAILED };
        bed.ends(0.5, sign);
        calls += 1;
        assert!(calls < 30, "two of three fail");
    }
    assert_eq!(calls, REMEMBERED);
}

#[test]
fn failures_that_come_faster_than_answers_are_none_yet() {
    let mut bed = Bed::new();
    bed.ends(0.0, Sign::Answered(Duration::from_secs(20)));
    // Thirty of a hundred calls that were sent together fail at once.
    for _ in 0..30 {
        bed.ends(0.01, FAILED);
    }
    assert!(!bed.is_down());
    bed.ends(19.0, Sign::Answered(Duration::from_secs(20)));
    bed.ends(0.5, FAILED);
    assert!(!bed.is_down());
    // If nothing else comes for as long as an answer takes, it is down.
    let since = bed.now;
    while !bed.is_down() {
        bed.ends(0.6, FAILED);
        assert!(bed.now - since <= Duration::from_secs(21), "it is down");
    }
}

#[test]
fn one_call_at_a_time_finds_out_and_rests_double() {
    let mut bed = Bed::new();
    let mut rest = bed.goes_down();
    for _ in 0..8 {
        bed.pass(rest.as_secs_f64() - 0.001);
        assert!(bed.is_down() && !bed.health.may_be_asked("p", bed.now));
        bed.pass(0.001);
        assert!(bed.health.may_be_asked("p", bed.now));
        let Standing::Probe(probe) = bed.standing() else { panic!("it is time") };
        assert!(bed.is_down(), "one at a time");
        bed.ends(0.1, FAILED);
        drop(probe);
        let Standing::Down(left, _) = bed.standing() else { panic!("it is still down") };
        assert_eq!(left, (rest * 2).min(RESTS.1));
        rest = left;
    }
    assert_eq!(rest, RESTS.1);
    bed.pass(rest.as_secs_f64());
    let Standing::Probe(_probe) = bed.standing() else { panic!("it is time") };
    bed.ends(0.1, Sign::Answered(SPAN));
    assert!(matches!(bed.standing(), Standing::Well));
    // Down again soon: it is left alone for long. Down again much later: for a short time.
    assert_eq!(bed.goes_down(), RESTS.1);
    bed.ends(1.0, Sign::Answered(SPAN));
    bed.pass(RECOVERED.as_secs_f64());
    assert_eq!(bed.goes_down(), RESTS.0);
}

#[test]
fn a_probe_that_comes_to_nothing_leaves_room_for_another() {
    let mut bed = Bed::new();
    let rest = bed.goes_down();
    bed.pass(rest.as_secs_f64());
    let Standing::Probe(probe) = bed.standing() else { panic!("it is time") };
    drop(probe);
    assert!(matches!(bed.standing(), Standing::Probe(_)));
}

#[test]
fn late_failures_lengthen_nothing_and_late_answers_end_it() {
    let mut bed = Bed::new();
    let rest = bed.goes_down();
    bed.ends(1.0, FAILED);
    let Standing::Down(left, _) = bed.standing() else { panic!("it is down") };
    assert_eq!(left, rest - Duration::from_secs(1));
    bed.ends(1.0, Sign::Answered(SPAN));
    assert!(matches!(bed.standing(), Standing::Well));
}

#[test]
fn who_says_no_is_there() {
    use FaultKind::{BadAnswer, Cancelled, Denied, Failed, NotSent, Refused, Rejected, Throttled, Unfinished, Unknown};
    let of = |kind| Sign::of(&Err::<(), _>(Fault::new(kind, "")), SPAN);
    for kind in [NotSent, Failed, Unknown, BadAnswer] {
        assert_eq!(of(kind), Some(Sign::Failed(kind)));
    }
    for kind in [Refused, Throttled, Rejected, Denied] {
        assert_eq!(of(kind), Some(Sign::Answered(SPAN)));
    }
    for kind in [Cancelled, Unfinished] {
        assert_eq!(of(kind), None);
    }
    assert_eq!(Sign::of(&Ok(()), SPAN), Some(Sign::Answered(SPAN)));
}
