"""Everything between a request and a picture: queue API, job table, own GPUs, RunPod.

How it hangs together, from the bottom up (the arrows are held by import-linter):

    errors, clock     every error a caller can get, by code; time, which is passed in everywhere
    job               JobState, the frozen Job (one row of `jobs`), the events that can happen to it
    lifecycle         TRANSITIONS and advance(job, event, now) -> Change or None; pure
    ledger            prices, and the lines of credits that a Change means; pure
    report            what a worker or RunPod says of a job -> event; pure
    settings          the environment, read once
    store/            tables, migrations, database, and the verbs on them: one transaction each
    objects/          pictures and texts by key: on disk, or in a bucket
    edit/             a caller's request -> what is checked and stored, and the worker's input
    prompt/           options -> prompt
    runpod/           RunPod's cloud as a client sees it
    demo/             takes jobs as an own worker does, and draws over their pictures
    own/              RunPod's worker protocol, for own GPUs; works on the store, knows no HTTP
    steps/            background work: each step does one short thing and says how many rows
    api/              routes
    page/             the page, as plain files
    app, cloud, cli   the composition root

A job's road: `store.create` -> QUEUED; then by an own worker, `store.take` -> RUNNING ->
`ResultArrived` -> FINISHING -> `Stored` -> SUCCEEDED; or by RunPod, where a step does

    for job in store.claim([JobState.QUEUED], backend=RUNPOD, ...):  # lease and fence, one commit
        job = store.settle(job, Claimed(...), now)             # -> SENDING, before the POST
        ... network, outside any transaction ...               # (None: another was first)
        store.settle(job, Sent(remote_id, look_at), now)       # where id, state, fence are as read

`store.record(job_id, event, now)` is read, advance and apply in one transaction, for who holds no
claim (a cancel, a hook). `store.release(job, due_at, now)` gives a claim back unchanged.
An output is put into `objects` under `job.output_key_for()` before `ResultArrived`: the finishing
step makes the picture of it, for every back end, also after a crash.
"""
