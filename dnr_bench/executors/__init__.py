"""Who does the work of stages: Ray; this process does it by `dnr_bench.infra.work.LocalExecutor`."""
