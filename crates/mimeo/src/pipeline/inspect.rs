//! What pictures that were paid for look like, and what becomes of those that look wrong.
//!
//! The money is settled and the pictures are stored meanwhile, whatever is found. A picture that fails is then taken out
//! of the cache where nobody should get it again, and the route says whether its caller does.

use std::time::Duration;

use futures_util::future::join_all;

use super::make::Account;
use super::{Order, Pipeline};
use crate::config::OnFail;
use crate::domain::{Check, Delivered, Finding, Form, Format, Picture};
use crate::error::{Error, Kind};
use crate::media::inspect::{Sent, inspect};
use crate::store::{Feedback, FeedbackKind};

/// How long a picture waits for a thread that looks at it. Beyond, it goes out unseen: its caller waits, too.
const PATIENCE: Duration = Duration::from_millis(250);

/// The longer edge of a picture as the judge sees it, in pixels: what is wrong with it can be seen there.
const JUDGED: u32 = 768;

/// The pictures of one call after they were looked at.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Those that are given out.
    pub(super) good: Vec<Delivered>,
    /// Those that failed a check on a route that does not give out such.
    pub(super) failed: Vec<Delivered>,
    /// What was found, a sentence each.
    pub(super) findings: Vec<String>,
}

impl Pipeline {
    /// What is wrong with `pictures`, one list each.
    pub(super) async fn findings(
        &self,
        order: &Order,
        account: Account<'_>,
        pictures: Vec<Picture>,
    ) -> Vec<Vec<Finding>> {
        let checks = self.checks(order, account);
        if checks.is_empty() {
            return Vec::new();
        }
        let request = &account.candidate.request;
        let looks = join_all(pictures.iter().map(|picture| self.cache.look(picture, PATIENCE))).await;
        let found = looks.into_iter().map(|look| {
            let look = match look {
                Ok(look) => look,
                Err(why) => {
                    tracing::debug!(request = %order.call.id, %why, "a picture goes out unseen");
                    return Vec::new();
                }
            };
            let mut found = inspect(&look, request.size);
            if checks.iter().any(|check| check.compares()) {
                let (provider, model) = (account.provider.name.as_str(), account.model.id.as_str());
                found.extend(self.habits.meet(Sent { provider, model, prompt: &request.prompt }, &look));
            }
            found.retain(|finding| checks.contains(&finding.check));
            found
        });
        found.collect()
    }

    /// What is looked for in the pictures of `account`.
    fn checks(&self, order: &Order, account: Account<'_>) -> Vec<Check> {
        if !self.is_inspecting {
            return Vec::new();
        }
        let request = &account.candidate.request;
        let mut checks = match &order.plan.settings.quality.checks {
            Some(wanted) => wanted.clone(),
            // Who runs a model, or a simulation, sells no pictures with watermarks.
            None if account.provider.is_near() || account.provider.record.simulated => {
                Check::ALL.into_iter().filter(|check| !check.compares()).collect()
            }
            None => Check::ALL.to_vec(),
        };
        // Edits of one picture are alike, and of a job that was taken over nobody knows the prompt.
        if !request.inputs.is_empty() || request.prompt.trim().is_empty() {
            checks.retain(|check| !check.compares());
        }
        checks
    }

    /// Parts the pictures that are given out from those that are not, and takes out of the cache what nobody should get
    /// again.
    pub(super) async fn sort(
        &self,
        order: &Order,
        account: Account<'_>,
        made: Vec<Delivered>,
        findings: Vec<Vec<Finding>>,
    ) -> Seen {
        let on_fail = order.plan.settings.quality.on_fail;
        let mut seen = Seen::default();
        let mut unlisted = Vec::new();
        let several = made.len() > 1;
        let mut findings = findings.into_iter();
        for (index, delivered) in made.into_iter().enumerate() {
            let found = findings.next().unwrap_or_default();
            for finding in &found {
                let which = if several { format!("picture {} ", index + 1) } else { "the picture ".to_owned() };
                let sure = if finding.fails() { "" } else { ", it seems" };
                seen.findings.push(format!(
                    "{}: {which}{}{sure} ({})",
                    account.candidate.name,
                    finding.what,
                    finding.check.name()
                ));
            }
            let mut failures = found.iter().filter(|finding| finding.fails()).peekable();
            let has_failed = failures.peek().is_some();
            if has_failed && (on_fail != OnFail::Warn || failures.any(|finding| finding.check.is_worthless())) {
                unlisted.extend(delivered.id);
            }
            let into = if has_failed && on_fail != OnFail::Warn { &mut seen.failed } else { &mut seen.good };
            into.push(delivered);
        }
        if !unlisted.is_empty()
            && let Err(error) = self.cache.unlist(unlisted).await
        {
            tracing::warn!(request = %order.call.id, %error, "a picture that failed its checks still answers others");
        }
        if !seen.findings.is_empty() {
            tracing::info!(request = %order.call.id, provider = account.provider.name, model = account.model.id,
                           found = seen.findings.len(), failed = seen.failed.len(), "pictures look wrong");
        }
        seen
    }

    /// Lets the judge look at some of `made`, in the background.
    pub(super) fn have_judged(&self, order: &Order, account: Account<'_>, made: &[Delivered]) {
        let Some(judge) = &self.judge else { return };
        let request = &account.candidate.request;
        if request.prompt.trim().is_empty() {
            return;
        }
        for delivered in made {
            let Some(id) = delivered.id.filter(|id| judge.wants(*id)) else { continue };
            let (judge, opinions, cache) = (judge.clone(), self.opinions.clone(), self.cache.clone());
            let (picture, prompt, leaving) = (delivered.picture.clone(), request.prompt.clone(), self.leaving.clone());
            let word = Feedback {
                at_ms: self.clock.now(),
                picture: id,
                request: Some(order.call.asked_as()),
                tenant: order.call.caller.tenant.clone(),
                key: String::new(),
                candidate: account.candidate.known_as(),
                category: order.plan.sense.category.clone().unwrap_or_default(),
                kind: FeedbackKind::Judge,
                value: 0,
                trials: 1,
                note: None,
            };
            self.tracker.spawn(async move {
                let judging = async {
                    let shown = cache.copy(&picture, small(&picture), None).await.ok()?;
                    let points = judge.judge(&prompt, &shown).await?;
                    let word = Feedback { value: points.round() as u32, ..word };
                    if let Err(error) = opinions.note(vec![word]).await {
                        tracing::warn!(%error, "what the judge said could not be written down");
                    }
                    Some(())
                };
                // A gateway that stops does not wait for an opinion.
                tokio::select! {
                    _ = judging => {}
                    () = leaving.cancelled() => {}
                }
            });
        }
    }

    /// What the judge thinks of `picture` as an answer to `prompt`, in points from 0 to 100. `None` if there is no judge, or
    /// it has no opinion in time.
    pub async fn judge(&self, prompt: &str, picture: &Picture) -> Option<f64> {
        let judge = self.judge.as_ref()?;
        let shown = self.cache.copy(picture, small(picture), Some(PATIENCE)).await.ok()?;
        judge.judge(prompt, &shown).await
    }
}

/// The form in which the judge sees `picture`.
fn small(picture: &Picture) -> Form {
    let longer = picture.width.max(picture.height).max(1);
    let side = |side: u32| {
        let scaled = u64::from(side) * u64::from(JUDGED.min(longer)) / u64::from(longer);
        u32::try_from(scaled).unwrap_or(JUDGED).max(1)
    };
    Form { width: side(picture.width), height: side(picture.height), format: Format::Jpeg }
}

/// What a caller is told all of whose pictures failed, on a route that does not give out such.
pub(super) fn rejected(failed: &[Delivered], findings: &[String]) -> Error {
    let cost = match super::total(failed).known() {
        Some(usd) => format!("${usd}"),
        None => "an unknown amount".to_owned(),
    };
    let message = format!(
        "What was made failed the checks of this route, was billed {cost}, and is not given out: {}. The same request \
         makes a new picture and pays for it.",
        findings.join("; ")
    );
    let mut error = Error::new(Kind::Upstream, message).code("picture_rejected");
    error.may_have_billed = true;
    error
}
