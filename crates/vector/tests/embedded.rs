//! Vectors in this process: what they find, and what is left of them in their file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{found, keeps_directions, keeps_points, run};
use tollgate_vector::{Embedded, Index, Metric, Shape, Shelf};

fn index(shelf: &Arc<Shelf>, dimensions: usize, metric: Metric) -> Embedded {
    Embedded::new(Arc::clone(shelf), Shape { dimensions, metric })
}

/// The ids that a file holds, by their distance from 0.
fn ids(path: &Path) -> Vec<String> {
    let shelf = Arc::new(Shelf::open(path));
    let hits = run(found(&index(&shelf, 1, Metric::Euclidean), "n", &[0.0], 1000, None));
    hits.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn keeps_and_finds() {
    let shelf = Arc::new(Shelf::default());
    run(async {
        keeps_directions(&index(&shelf, 2, Metric::Cosine)).await;
        keeps_points(&index(&shelf, 2, Metric::Euclidean)).await;
    });
}

#[test]
fn what_is_kept_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.log");
    run(keeps_directions(&index(&Arc::new(Shelf::open(&path)), 2, Metric::Cosine)));
    let shelf = Arc::new(Shelf::open(&path));
    let kept = run(found(&index(&shelf, 2, Metric::Cosine), "a", &[0.0, -1.0], 5, None));
    assert_eq!(kept, [("east".to_owned(), 0.0), ("north".to_owned(), 2.0)]);
}

/// A file of ten vectors, of which two are deleted; where each record ends, and what stands there then.
fn history(path: &Path) -> Vec<(usize, Vec<String>)> {
    let shelf = Arc::new(Shelf::open(path));
    let index = index(&shelf, 1, Metric::Euclidean);
    let length = || std::fs::metadata(path).unwrap().len() as usize;
    run(async {
        let mut ids: Vec<String> = Vec::new();
        let mut states = vec![(length(), ids.clone())];
        for number in 0..10u8 {
            index.put("n", &format!("id {number}"), &[f32::from(number)]).await.unwrap();
            ids.push(format!("id {number}"));
            states.push((length(), ids.clone()));
            if number % 4 == 3 {
                index.delete("n", &ids.remove(0)).await.unwrap();
                states.push((length(), ids.clone()));
            }
        }
        states
    })
}

#[test]
fn a_file_cut_anywhere_holds_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.log");
    let states = history(&path);
    let whole = std::fs::read(&path).unwrap();
    for end in 0..=whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let expected = states.iter().rev().find(|(length, _)| *length <= end);
        let expected = expected.map_or(Vec::new(), |(_, ids)| ids.clone());
        assert_eq!(ids(&path), expected, "cut at {end} of {}", whole.len());
        // It can be written on.
        let shelf = Arc::new(Shelf::open(&path));
        run(index(&shelf, 1, Metric::Euclidean).put("n", "new", &[100.0])).unwrap();
        drop(shelf);
        assert_eq!(ids(&path), [expected, vec!["new".to_owned()]].concat(), "cut at {end}");
    }
}

#[test]
fn a_file_damaged_anywhere_holds_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.log");
    let states = history(&path);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        std::fs::write(&path, &damaged).unwrap();
        let expected = states.iter().rev().find(|(length, _)| *length <= at);
        let expected = expected.map_or(Vec::new(), |(_, ids)| ids.clone());
        assert_eq!(ids(&path), expected, "damaged at {at} of {}", whole.len());
    }
}

#[test]
fn a_file_of_something_else_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.log");
    std::fs::write(&path, "somebody's notes").unwrap();
    assert_eq!(ids(&path), Vec::<String>::new());
    assert_eq!(std::fs::read(folder.path().join("vectors.damaged")).unwrap(), b"somebody's notes");
}

#[test]
fn a_file_that_another_has_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.log");
    let shelf = Arc::new(Shelf::open(&path));
    let other = Arc::new(Shelf::open(&path));
    run(async {
        index(&shelf, 1, Metric::Euclidean).put("n", "first's", &[1.0]).await.unwrap();
        let others = index(&other, 1, Metric::Euclidean);
        others.put("n", "other's", &[1.0]).await.unwrap();
        assert!(others.has("n", "other's").await.unwrap());
    });
    drop((shelf, other));
    assert_eq!(ids(&path), ["first's"]);
}

#[test]
fn a_folder_that_is_not_there_keeps_nobody_from_searching() {
    let shelf = Arc::new(Shelf::open(Path::new("/nowhere/at/all/vectors.log")));
    run(keeps_directions(&index(&shelf, 2, Metric::Cosine)));
}

#[test]
fn the_file_does_not_grow_with_what_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.log");
    let shelf = Arc::new(Shelf::open(&path));
    let index = index(&shelf, 1024, Metric::Euclidean);
    run(async {
        for round in 0..1000u16 {
            let id = format!("id {}", round % 10);
            index.put("n", &id, &[f32::from(round); 1024]).await.unwrap();
        }
    });
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(length < 2 << 20, "{length}");
    drop(index);
    drop(shelf);
    let shelf = Arc::new(Shelf::open(&path));
    let index = Embedded::new(shelf, Shape { dimensions: 1024, metric: Metric::Euclidean });
    let nearest = run(found(&index, "n", &[991.0; 1024], 100, None));
    assert_eq!((nearest.len(), &*nearest[0].0, nearest[0].1), (10, "id 1", 0.0));
}

#[test]
fn many_vectors_are_searched_beside_the_requests() {
    /// A vector in a direction of its own.
    fn mostly(number: usize) -> Vec<f32> {
        let mut vector = vec![0.1; 1100];
        vector[number] = 10.0;
        vector
    }
    let shelf = Arc::new(Shelf::default());
    let index = index(&shelf, 1100, Metric::Cosine);
    run(async {
        for number in 0..1100u16 {
            index.put("n", &number.to_string(), &mostly(number.into())).await.unwrap();
        }
        let nearest = found(&index, "n", &mostly(400), 3, None).await;
        assert_eq!((nearest.len(), &*nearest[0].0, nearest[0].1), (3, "400", 0.0));
        assert_eq!(found(&index, "n", &mostly(400), 3, Some(0.01)).await, nearest[..1]);
    });
}
