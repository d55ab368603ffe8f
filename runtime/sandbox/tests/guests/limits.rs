//! Memory, fuel, CPU and concurrency.

use crate::{command_guest, eventually, get, http_guest, text};
use coracle_sandbox::{ContainerSpec, CpuBudget, Exit, HandleError, MemoryBudget};
use http::StatusCode;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hogs_memory_dies_of_it() {
    let memory = MemoryBudget::new(32 << 20);
    let spec = ContainerSpec { memory: memory.clone(), ..ContainerSpec::default() };
    let exit = command_guest(&["hog"], spec).run().await;
    let Exit::OutOfMemory { limit, peak } = exit else { panic!("{exit:?}") };
    assert_eq!(limit, 32 << 20);
    assert!(peak <= limit && peak > limit / 2, "{peak}");
    assert_eq!(exit.code(), 137);
    assert_eq!(exit.to_string(), "OutOfMemoryError: Container killed due to memory usage");
    assert_eq!(memory.current(), 0, "everything is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hogs_memory_is_fatal_to_its_container() {
    let memory = MemoryBudget::new(32 << 20);
    let container = http_guest(ContainerSpec { memory, ..ContainerSpec::default() });
    let fatal = tokio::spawn({
        let container = container.clone();
        async move { container.fatal().await }
    });
    let result = get(&container, "/hog").await;
    assert!(matches!(result, Err(HandleError::Guest(Exit::OutOfMemory { .. }))));
    assert!(matches!(fatal.await.unwrap(), Exit::OutOfMemory { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parents_limit_holds_for_all_its_children() {
    let task = MemoryBudget::new(16 << 20);
    let spec = ContainerSpec { memory: task.child(Some(1 << 30)), ..ContainerSpec::default() };
    let exit = command_guest(&["hog", "64"], spec).run().await;
    assert!(matches!(exit, Exit::OutOfMemory { limit, .. } if limit == 16 << 20), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_never_fits_says_so() {
    let spec = ContainerSpec { memory: MemoryBudget::new(64 << 10), ..ContainerSpec::default() };
    let exit = command_guest(&["exit", "0"], spec).run().await;
    assert!(matches!(exit, Exit::OutOfMemory { .. }), "{exit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_do_not_fit_together_take_turns() {
    // Room for one or two instances of the guest at a time.
    let memory = MemoryBudget::new(3 << 20);
    let container = http_guest(ContainerSpec { memory: memory.clone(), ..ContainerSpec::default() });
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let container = container.clone();
            tokio::spawn(async move { text(get(&container, "/slow?ms=5").await.unwrap()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(memory.peak() <= 3 << 20);
}

#[tokio::test]
async fn who_computes_for_long_does_so_beside_the_runtime() {
    let cpu = CpuBudget::unlimited();
    let container = command_guest(&["spin"], ContainerSpec { cpu: cpu.clone(), ..ContainerSpec::default() });
    let spinning = tokio::spawn({
        let container = container.clone();
        async move { container.run().await }
    });
    eventually("it computes", || cpu.used() > Duration::from_millis(5)).await;
    // The runtime's only thread does nothing else meanwhile.
    let (before, deadline) = (cpu.used(), Instant::now() + Duration::from_secs(20));
    while cpu.used() < before + Duration::from_millis(20) {
        assert!(Instant::now() < deadline, "it got no thread");
        std::thread::yield_now();
    }
    container.kill();
    assert_eq!(spinning.await.unwrap(), Exit::Killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn fuel_is_deterministic_and_limited() {
    let used = || async {
        let container = command_guest(&["fuel", "1000"], ContainerSpec::default());
        assert_eq!(container.run().await, Exit::Code(0));
        container.stats().fuel_used
    };
    let fuel = used().await;
    assert_eq!(used().await, fuel);
    let with = |limit| async move {
        let spec = ContainerSpec { fuel_per_run: Some(limit), ..ContainerSpec::default() };
        command_guest(&["fuel", "1000"], spec).run().await
    };
    assert_eq!(with(fuel + 1).await, Exit::Code(0));
    assert_eq!(with(fuel / 2).await, Exit::OutOfFuel { limit: fuel / 2 });

    let spec = ContainerSpec { fuel_per_request: Some(10_000_000), ..ContainerSpec::default() };
    let container = http_guest(spec);
    assert!(get(&container, "/hello").await.is_ok());
    let result = get(&container, "/spin").await;
    assert!(matches!(result, Err(HandleError::Guest(Exit::OutOfFuel { limit: 10_000_000 }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capped_guest_sleeps_off_its_debt() {
    let cpu = CpuBudget::capped(128);
    let spec = ContainerSpec {
        cpu: cpu.clone(),
        run_timeout: Some(Duration::from_millis(800)),
        ..ContainerSpec::default()
    };
    let started = std::time::Instant::now();
    let exit = command_guest(&["spin"], spec).run().await;
    assert!(matches!(exit, Exit::TimedOut { .. }));
    // An eighth of a core. Only that it is held back at all: how exactly is measured elsewhere.
    assert!(cpu.used() < started.elapsed() / 3, "{:?} of {:?}", cpu.used(), started.elapsed());
    assert!(cpu.used() > Duration::from_millis(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_let_a_lonely_guest_run_freely() {
    let cpu = CpuBudget::shares(2);
    let spec =
        ContainerSpec { cpu: cpu.clone(), fuel_per_run: Some(300_000_000), ..ContainerSpec::default() };
    let exit = command_guest(&["spin"], spec).run().await;
    assert!(matches!(exit, Exit::OutOfFuel { .. }));
    assert!(cpu.used() > Duration::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spinning_guest_leaves_room_for_others() {
    let spinning = http_guest(ContainerSpec::default());
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let container = spinning.clone();
            tokio::spawn(async move { get(&container, "/spin").await.is_ok() })
        })
        .collect();
    eventually("all spin", || spinning.stats().instances_live == 8).await;
    let other = http_guest(ContainerSpec::default());
    for _ in 0..10 {
        assert_eq!(get(&other, "/hello").await.unwrap().status(), StatusCode::OK);
    }
    spinning.kill();
    for call in calls {
        assert!(!call.await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_queue_and_are_turned_away() {
    let container = http_guest(ContainerSpec {
        max_concurrency: 1,
        max_queue: 1,
        queue_timeout: Duration::from_millis(50),
        ..ContainerSpec::default()
    });
    let holder = tokio::spawn({
        let container = container.clone();
        async move { get(&container, "/spin").await.is_ok() }
    });
    eventually("it runs", || container.stats().instances_live == 1).await;
    let waited = get(&container, "/hello").await;
    assert!(matches!(waited, Err(HandleError::Overloaded { .. })), "nobody makes room");
    holder.abort();
    eventually("there is room", || container.in_flight() == 0).await;
    assert!(get(&container, "/hello").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_never_fails_a_request() {
    // The engine of these tests has 64 slots.
    let container = http_guest(ContainerSpec::default());
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let container = container.clone();
            tokio::spawn(async move { text(get(&container, "/slow?ms=20").await.unwrap()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}
