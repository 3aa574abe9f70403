SELECT run, scheduler, state, format FROM runs
