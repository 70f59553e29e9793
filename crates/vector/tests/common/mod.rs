//! What every index must do, whatever keeps its vectors.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod postgres;
pub mod searching_redis;

use tollgate_vector::{Error, Index, Search};

/// Runs something asynchronous.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Ids and distances, to four places.
pub async fn found(
    index: &dyn Index,
    namespace: &str,
    vector: &[f32],
    most: usize,
    within: Option<f64>,
) -> Vec<(String, f64)> {
    let hits = index.nearest(namespace, Search { vector, among: None, most, within }).await.unwrap();
    hits.into_iter().map(|hit| (hit.id, (hit.distance * 1e4).round() / 1e4)).collect()
}

fn hits<const N: usize>(expected: [(&str, f64); N]) -> Vec<(String, f64)> {
    expected.into_iter().map(|(id, distance)| (id.to_owned(), distance)).collect()
}

/// An empty index of two dimensions, measured by angle.
pub async fn keeps_directions(index: &dyn Index) {
    assert_eq!(found(index, "a", &[1.0, 0.0], 5, None).await, []);
    assert!(!index.has("a", "east").await.unwrap());
    index.delete("a", "east").await.unwrap();
    for (id, vector) in [("east", [2.0, 0.0]), ("north", [0.0, 0.5]), ("west", [-1.0, 0.0])] {
        index.put("a", id, &vector).await.unwrap();
    }
    // Letters that mean something to a query are letters here.
    index.put("a-b {c}|*", "other: 1", &[1.0, 1.0]).await.unwrap();
    assert!(index.has("a", "east").await.unwrap());
    assert!(!index.has("a", "other: 1").await.unwrap());
    let expected = hits([("east", 0.0), ("north", 1.0), ("west", 2.0)]);
    assert_eq!(found(index, "a", &[3.0, 0.0], 5, None).await, expected);
    assert_eq!(found(index, "a", &[3.0, 0.0], 2, None).await, expected[..2]);
    assert_eq!(found(index, "a", &[3.0, 0.0], 5, Some(1.5)).await, expected[..2]);
    assert_eq!(found(index, "a", &[3.0, 0.0], 5, Some(-0.1)).await, []);
    let of = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    for (ids, expected) in [(of(&["west", "nobody", "north"]), &expected[1..]), (of(&[]), &expected[..0])] {
        let search = Search { vector: &[1.0, 0.0], among: Some(&ids), most: 5, within: None };
        let hits = index.nearest("a", search).await.unwrap();
        let ids: Vec<&str> = hits.iter().map(|hit| &*hit.id).collect();
        assert_eq!(ids, expected.iter().map(|(id, _)| &**id).collect::<Vec<_>>());
    }
    let between = 1.0 - 0.5f64.sqrt();
    let expected = hits([("other: 1", (between * 1e4).round() / 1e4)]);
    assert_eq!(found(index, "a-b {c}|*", &[1.0, 0.0], 5, None).await, expected);
    // In place of the old one.
    index.put("a", "east", &[0.0, -1.0]).await.unwrap();
    index.delete("a", "west").await.unwrap();
    assert!(!index.has("a", "west").await.unwrap());
    let expected = hits([("east", 0.0), ("north", 2.0)]);
    assert_eq!(found(index, "a", &[0.0, -7.0], 5, None).await, expected);
    let error = index.put("a", "east", &[1.0]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the vector has 1 numbers where `vectordb.dimensions` says 2; set it to what the embeddings model gives"
    );
    let search = Search { vector: &[f32::NAN, 0.0], among: None, most: 1, within: None };
    assert!(matches!(index.nearest("a", search).await, Err(Error::NotFinite)));
}

/// An empty index of two dimensions, measured by lines.
pub async fn keeps_points(index: &dyn Index) {
    for (id, vector) in [("near", [3.0, 4.0]), ("far", [6.0, 8.0])] {
        index.put("p", id, &vector).await.unwrap();
    }
    let expected = hits([("near", 5.0), ("far", 10.0)]);
    assert_eq!(found(index, "p", &[0.0, 0.0], 5, None).await, expected);
    assert_eq!(found(index, "p", &[0.0, 0.0], 5, Some(5.0001)).await, expected[..1]);
}
