//! A draft first, the final later, at once, or never.
//!
//! The draft is a request like any other, to the route's drafters; the final is another one, to the route's own
//! candidates, from the same prompt, seed and pictures. So both are cached, joined and accounted for as always, and
//! asking twice for the same final pays once. What makes them one is the parent in the story of the final.

mod papers;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::papers::Approval;
use self::papers::Papers;
use super::Pipeline;
use super::notes::{Notes, Telling};
use crate::clock::Millis;
use crate::config::{Cascade, Finalize};
use crate::domain::{
    Answer, CacheMode, Call, Cascaded, Finding, ImageId, ImageRequest, Leg, Price, Progress, Size, Stage, Usd, WishId,
};
use crate::error::{Error, Kind, Result};
use crate::media::inspect::inspect;
use crate::route::{Maker, fortune};
use crate::store::{Draft, NewDraft, NewDrafts, Saving};

/// What is left of a deadline for handing the draft over when the final does not come in time.
const MARGIN: Duration = Duration::from_millis(50);

/// How long a draft waits for a thread that looks at it. Beyond, it passes unseen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Seeds are below this: providers take numbers of 31 bits, all of them.
const SEEDS: u64 = 1 << 31;

/// Who would make the final, and what one picture of it would probably cost.
#[derive(Clone, Debug)]
struct Outlook {
    provider: String,
    model: String,
    price: Price,
}

impl Pipeline {
    /// Makes the draft that the route of `call` wants first, and the final if that is due by itself.
    pub(super) async fn draft_first(
        self: &Arc<Self>,
        stop: &CancellationToken,
        call: Call,
        progress: Option<mpsc::Sender<Progress>>,
        cascade: &Cascade,
        route: &str,
    ) -> Result<Answer> {
        let begun = Instant::now();
        let seed = self.seed_for(&call);
        let leg = Leg {
            stage: Stage::Final,
            parent: Some(call.id),
            at_once: true,
            seed,
            final_price: Price::Unknown,
            taken_back: Usd::ZERO,
        };
        let final_call = Call { id: self.new_request_id(), stream: None, leg: Some(leg), ..call.clone() };
        // What can never be made final is not worth a draft.
        let outlook = match self.outlook_of(Call { n: 1, ..final_call.clone() }).await {
            Ok(outlook) => Some(outlook),
            Err(error) if error.kind == Kind::BadRequest => return Err(error),
            Err(error) => {
                tracing::info!(request = %call.id, %error, "what the final of a draft will cost is not known");
                None
            }
        };
        let final_price = outlook.as_ref().map_or(Price::Unknown, |outlook| outlook.price);
        let leg = Leg { stage: Stage::Draft, parent: None, at_once: false, final_price, ..leg };
        let draft_call = drafted(&call, leg);
        // Told when all is decided.
        let telling = Telling::begin(&self.stories, &draft_call, self.clock.now());
        let mut draft = self.run_noted(stop, draft_call, progress.clone(), &telling.notes).await?;
        let saved = leg.saving(&draft.pictures);

        let failures = match cascade.finalize {
            Finalize::Approval => Vec::new(),
            Finalize::OnFail | Finalize::OnPass => self.failures(&draft).await,
        };
        let is_due = match cascade.finalize {
            Finalize::Approval => false,
            Finalize::OnFail => !failures.is_empty(),
            Finalize::OnPass => failures.is_empty(),
        };
        if !failures.is_empty() {
            draft.warnings.push(format!("the draft {}", failures.join(", and ")));
        }
        if is_due {
            let limits = what_is_left(&call, &draft, begun);
            let made = match limits {
                Ok((max_spend, deadline)) => {
                    let leg = Leg { stage: Stage::Final, parent: Some(call.id), at_once: true, ..leg };
                    let leg = Leg { taken_back: saved, ..leg };
                    let wanted = Call { leg: Some(leg), stream: call.stream, max_spend, deadline, ..final_call };
                    self.run_once(stop, wanted, progress).await
                }
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => {
                    telling.notes.warned(&draft.warnings);
                    return Ok(together(draft, made, final_price));
                }
                Err(error) if error.kind == Kind::Cancelled && stop.is_cancelled() => return Err(error),
                Err(error) => {
                    draft.warnings.push(format!("this is the draft, because its final failed: {}", error.message));
                }
            }
        } else if cascade.finalize == Finalize::OnPass {
            draft.warnings.push("so no final was made of it".to_owned());
        }
        // The final was not made. Before the drafts, so that whoever makes one final finds what is to be taken back.
        self.ledger.note(self.spared(&call, route, outlook.as_ref(), saved).into_iter().collect());
        self.keep_drafts(&call, route, leg, cascade, &mut draft).await;
        telling.notes.warned(&draft.warnings);
        draft.story = draft.story.map(|_| Box::new(telling.notes.story()));
        Ok(draft)
    }

    /// Makes the final of the draft `picture` of the caller's tenant: what was asked for with it as `wish`, or last.
    ///
    /// # Errors
    /// There is no such draft, its time is over, or anything that keeps a caller from its pictures.
    pub async fn finalize(
        self: &Arc<Self>,
        picture: ImageId,
        wish: Option<WishId>,
        approval: Approval,
    ) -> Result<Answer> {
        let this = Arc::clone(self);
        // Whether its caller waits or not: what was noted as saved is to be taken back.
        let making = self.tracker.spawn(async move { Box::pin(this.make_final(picture, wish, approval)).await });
        making.await.unwrap_or_else(|lost| Err(Error::internal("the task that made a final", lost)))
    }

    async fn make_final(
        self: &Arc<Self>,
        picture: ImageId,
        wish: Option<WishId>,
        approval: Approval,
    ) -> Result<Answer> {
        let tenant = approval.caller.tenant.clone();
        let Some(draft) = self.store.draft(picture, tenant.clone(), wish).await? else { return Err(no_draft(picture)) };
        let Draft { wish, request, saved, is_finalized, expires_ms, papers, inputs } = draft;
        let papers = papers.filter(|_| self.clock.now() < expires_ms).ok_or_else(|| expired(picture, expires_ms))?;
        let papers = Papers::from_json(&papers)?;
        let route = papers.route().to_owned();
        let taken_back = if is_finalized { Usd::ZERO } else { saved };
        let (parent, final_price) = (Some(request), Price::Unknown);
        let leg = Leg { stage: Stage::Final, parent, at_once: false, seed: None, final_price, taken_back };
        let call = papers.call(approval, inputs, leg)?;
        let outlook = self.outlook_of(call.clone()).await.ok();
        let mut answer = self.run_once(&CancellationToken::new(), call.clone(), None).await?;
        // Only now: should this process end before, who asks again takes it back.
        let taken_back = self.spared(&call, &route, outlook.as_ref(), -saved);
        self.store.finalized(picture, tenant, wish, taken_back).await?;
        answer.cascade = Some(Cascaded {
            stage: Stage::Final,
            drafts: Vec::new(),
            wishes: Vec::new(),
            until_ms: None,
            final_price: outlook.map_or(Price::Unknown, |outlook| outlook.price),
            parent: Some(request),
        });
        Ok(answer)
    }

    /// A seed for draft and final where the caller names none. What is asked for decides, so that the same request is
    /// the same draft; who wants a new picture gets a new one. Where several pictures answer the same request, they
    /// must not be all the same.
    fn seed_for(&self, call: &Call) -> Option<u64> {
        let has_variants = call.cache.variants.or(self.routes.variants_of(call)).is_some_and(|variants| variants > 1);
        let is_new = matches!(call.cache.mode, CacheMode::NoCache | CacheMode::NoStore);
        let number = if is_new { crate::domain::id::random() as u64 } else { fortune("seed", call) };
        (call.request.seed.is_none() && !has_variants).then_some(number % SEEDS)
    }

    /// Who would be asked first for the pictures of `call`, and what they would probably cost.
    async fn outlook_of(&self, call: Call) -> Result<Outlook> {
        let notes = Arc::new(Notes::of(&self.stories, &call, self.clock.now()));
        let order = self.understand(call, &notes).await?;
        let ranked = self.rank(&order, order.call.n)?;
        let first = ranked.first().ok_or_else(|| Error::internal("cascade", "a plan without candidates"))?;
        Ok(match &first.maker {
            Maker::Provider(provider, model) => Outlook {
                provider: provider.name.clone(),
                model: model.id.clone(),
                price: self.prices.estimate(provider, model, &first.request, order.call.n).usd,
            },
            Maker::Template => {
                Outlook { provider: first.maker_name().to_owned(), model: first.name.clone(), price: Price::FREE }
            }
        })
    }

    /// What is wrong with the drafts; nothing if they pass.
    async fn failures(&self, draft: &Answer) -> Vec<String> {
        // One that is brought to another size than it came in is judged by what it shows alone.
        let asked = if draft.target.is_some() { Size::Auto } else { draft.understood.size };
        let looks = draft.pictures.iter().map(|delivered| self.cache.look(&delivered.picture, PATIENCE));
        let looks = join_all(looks).await;
        let found = looks.iter().filter_map(|look| look.as_ref().ok()).flat_map(|look| inspect(look, asked));
        let mut failures: Vec<String> = found.filter(Finding::fails).map(|finding| finding.what).collect();
        failures.dedup();
        failures
    }

    /// What the ledger says was saved, if anything was.
    fn spared(&self, call: &Call, route: &str, outlook: Option<&Outlook>, saved: Usd) -> Option<Saving> {
        let Outlook { provider, model, .. } = outlook.filter(|_| !saved.is_zero())?;
        Some(self.ledger.spared(call, route, "cascade", (provider, model), saved))
    }

    /// Keeps what was asked for beside the drafts, so that they can be made final.
    async fn keep_drafts(&self, call: &Call, route: &str, leg: Leg, cascade: &Cascade, draft: &mut Answer) {
        let within = Millis::from(cascade.finalize_within_s).saturating_mul(1000);
        let expires_ms = self.clock.now().saturating_add(within);
        let drafts: Vec<NewDraft> = draft
            .pictures
            .iter()
            .enumerate()
            .filter_map(|(index, picture)| {
                let id = picture.id?;
                // Of a pool, each draft has a seed of its own for its final, so that asking twice for that is one bill.
                let of_pool = call.request.seed.is_none().then_some(id.0 as u64 % SEEDS);
                let drawn = leg.seed.map(|seed| seed.saturating_add(index as u64)).or(of_pool);
                let papers = Papers::of(call, route, drawn, index).to_json();
                let (wish, saved) = (Papers::wish(&papers), leg.spared_by(picture));
                Some(NewDraft { picture: id, wish, saved, papers })
            })
            .collect();
        let mut cascaded = Cascaded {
            stage: Stage::Draft,
            drafts: drafts.iter().map(|draft| draft.picture).collect(),
            wishes: drafts.iter().map(|draft| draft.wish).collect(),
            until_ms: (!drafts.is_empty()).then_some(expires_ms),
            final_price: leg.final_price,
            parent: None,
        };
        let inputs = call.request.inputs.iter().chain(&call.request.mask);
        let new = NewDrafts {
            tenant: call.caller.tenant.clone(),
            request: call.id,
            inputs: inputs.map(|input| input.picture.clone()).collect(),
            expires_ms,
            drafts,
        };
        if new.drafts.is_empty() {
            draft.warnings.push("the draft is not stored, so it cannot be made final".to_owned());
        } else if let Err(error) = self.store.keep_drafts(new).await {
            tracing::warn!(request = %call.id, %error, "a draft cannot be made final");
            draft
                .warnings
                .push("the draft cannot be made final, because the store failed; ask for it again".to_owned());
            (cascaded.drafts, cascaded.until_ms) = (Vec::new(), None);
        }
        draft.cascade = Some(cascaded);
    }
}

/// The request for the draft of `call`. How good the picture is to be is said of the final.
fn drafted(call: &Call, leg: Leg) -> Call {
    let request = ImageRequest { quality: None, steps: None, ..call.request.clone() };
    Call { request, quality_tier: None, leg: Some(leg), ..call.clone() }
}

/// What may still be spent, and how long its caller still waits, after the draft.
///
/// # Errors
/// Nothing is left.
fn what_is_left(call: &Call, draft: &Answer, begun: Instant) -> Result<(Option<Usd>, Option<Duration>)> {
    let max_spend = match (call.max_spend, draft.cost) {
        (None, _) => None,
        (Some(limit), Price::Known(cost)) => Some(limit - cost),
        (Some(_), Price::Unknown) => {
            return Err(Error::new(Kind::OverBudget, "nobody knows what the draft cost, and max_spend_usd is set"));
        }
    };
    let deadline = match call.deadline {
        None => None,
        Some(deadline) => match deadline.checked_sub(begun.elapsed() + MARGIN) {
            Some(left) if !left.is_zero() => Some(left),
            _ => return Err(Error::new(Kind::DeadlinePassed, "no time was left for it")),
        },
    };
    Ok((max_spend, deadline))
}

/// The answer of a final that was made in the same request as its draft.
fn together(draft: Answer, made: Answer, final_price: Price) -> Answer {
    let Answer { warnings, explain, timings, .. } = draft;
    let (parent, drafts, wishes) = (Some(draft.id), Vec::new(), Vec::new());
    Answer {
        id: draft.id,
        cost: draft.cost.plus(made.cost),
        saved: draft.saved + made.saved,
        warnings: warnings.into_iter().chain(made.warnings).collect(),
        explain: explain.into_iter().chain(made.explain).collect(),
        timings: timings.into_iter().chain(made.timings).collect(),
        cascade: Some(Cascaded { stage: Stage::Final, drafts, wishes, until_ms: None, final_price, parent }),
        ..made
    }
}

fn no_draft(picture: ImageId) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "There is no draft {picture}. What can be made final is named in `mimeo.cascade` of the answer of a route with \
             a cascade."
        ),
    )
    .code("draft_not_found")
}

fn expired(picture: ImageId, expires_ms: Millis) -> Error {
    Error::new(
        Kind::Gone,
        format!(
            "The draft {picture} could be made final until {}. Ask for it again: while it is stored it costs nothing.",
            crate::clock::rfc3339(expires_ms)
        ),
    )
    .code("draft_expired")
}
