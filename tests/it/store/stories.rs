//! The stories of requests: kept by tenant, replaced by what is told later, forgotten in time.

use mimeo::domain::{Outcome, Price, RequestId, Story};
use mimeo::pipeline::family;
use mimeo::store::StoryQuery;

use super::{Database, NOW, on_both};

on_both!(stories_are_their_tenants, what_is_told_later_counts, old_ones_go_and_so_do_too_many);

fn story(tenant: &str, at_ms: i64, parent: Option<RequestId>) -> Story {
    Story {
        request: RequestId::random(),
        parent,
        stage: None,
        at_ms,
        took_ms: 3,
        tenant: tenant.to_owned(),
        key: "web".to_owned(),
        route: "hero".to_owned(),
        model: None,
        purpose: None,
        category: None,
        prompt: None,
        reading: Vec::new(),
        objective: None,
        candidates: Vec::new(),
        attempts: Vec::new(),
        joined: None,
        cache: None,
        cache_key: None,
        cost: Price::Unknown,
        saved: None,
        pictures: Vec::new(),
        warnings: Vec::new(),
        outcome: Outcome::Ok,
    }
}

async fn stories_are_their_tenants(database: Database) {
    let (store, other) = (database.open(), database.open());
    let draft = story("acme", NOW, None);
    let finals = [story("acme", NOW + 2, Some(draft.request)), story("acme", NOW + 1, Some(draft.request))];
    let foreign = story("shop", NOW + 3, None);
    let all = vec![draft.clone(), finals[0].clone(), finals[1].clone(), foreign.clone()];
    store.write_stories(all).await.unwrap();
    assert_eq!(other.story(draft.request, Some("acme".into())).await.unwrap(), Some(draft.clone()));
    assert_eq!(other.story(draft.request, None).await.unwrap(), Some(draft.clone()));
    assert_eq!(other.story(draft.request, Some("shop".into())).await.unwrap(), None);
    assert_eq!(other.stories_after(draft.request).await.unwrap(), [finals[1].clone(), finals[0].clone()]);
    let listed = |tenant: Option<&str>, since_ms, limit| {
        let query = StoryQuery { tenant: tenant.map(str::to_owned), since_ms, limit };
        let store = &other;
        async move { store.stories(query).await.unwrap().into_iter().map(|story| story.request).collect::<Vec<_>>() }
    };
    assert_eq!(listed(None, None, 2).await, [finals[0].request, foreign.request], "the newest, oldest first");
    assert_eq!(listed(Some("acme"), Some(NOW + 1), 9).await, [finals[1].request, finals[0].request]);

    // Who may see one of a family sees no relatives of other tenants.
    let strange = story("shop", NOW + 4, Some(draft.request));
    store.write_stories(vec![strange.clone()]).await.unwrap();
    let of = |story: &Story, tenant: Option<&str>| {
        let (other, story, tenant) = (&other, story.clone(), tenant.map(str::to_owned));
        async move { family(other, story, tenant).await.unwrap() }
    };
    assert_eq!(of(&draft, Some("acme")).await.children, [finals[1].clone(), finals[0].clone()]);
    assert_eq!(of(&draft, None).await.children.len(), 3, "the operator sees all");
    assert_eq!(of(&strange, Some("shop")).await.parent, None);
    assert_eq!(of(&finals[0], Some("acme")).await.parent, Some(draft));
}

async fn what_is_told_later_counts(database: Database) {
    let store = database.open();
    let first = story("acme", NOW, None);
    let later = Story { took_ms: 9, cost: Price::FREE, ..first.clone() };
    store.write_stories(vec![first]).await.unwrap();
    store.write_stories(vec![later.clone()]).await.unwrap();
    assert_eq!(store.stories(StoryQuery { limit: 9, ..StoryQuery::default() }).await.unwrap(), [later]);
}

async fn old_ones_go_and_so_do_too_many(database: Database) {
    let store = database.open();
    let stories: Vec<Story> = (0..6).map(|age| story("acme", NOW - age, None)).collect();
    store.write_stories(stories.clone()).await.unwrap();
    assert_eq!(store.forget_stories(NOW - 4, None).await.unwrap(), 1);
    assert_eq!(store.forget_stories(NOW - 4, Some(9)).await.unwrap(), 0);
    assert_eq!(store.forget_stories(NOW - 9, Some(2)).await.unwrap(), 3);
    for (age, story) in stories.iter().enumerate() {
        assert_eq!(store.story(story.request, None).await.unwrap().is_some(), age < 2, "{age}");
    }
}
