"""Every Redis key, channel and cap; no other file spells one out."""

#: Everything of this service, Celery's lists included, stands below it.
PREFIX = "pawqueue:"

#: Hash, one a job: its record.
JOB = f"{PREFIX}job:"
#: Sorted set by queue, of job ids by time of acceptance: the jobs waiting for a worker.
QUEUED = f"{PREFIX}queued:"
#: Sorted set by queue, of job ids by the end of their lease: the jobs that a worker holds.
RUNNING = f"{PREFIX}running:"
#: Hash of queue to the bytes of the images of its waiting jobs.
QUEUED_BYTES = f"{PREFIX}queued-bytes"
#: Hash by queue, of owner to the number of its waiting jobs; one who has none is not there.
OWNER_JOBS = f"{PREFIX}owner-jobs:"
#: Hash by queue, of owner to the bytes of the images of its waiting jobs.
OWNER_BYTES = f"{PREFIX}owner-bytes:"
#: Hash, one a submission: its record, with a count for each state of its jobs.
SUBMISSION = f"{PREFIX}submission:"
#: List, one a submission: the ids of its jobs in order of acceptance, those of rejected images among them.
SUBMISSION_JOBS = f"{PREFIX}submission-jobs:"
#: Sorted set by owner, of the ids of the latest submissions by the time of their opening.
SUBMISSIONS = f"{PREFIX}submissions:"
#: Hash with an expiry, one an idempotency key: the fingerprint of what was sent with it, and the job that it became.
IDEMPOTENCY = f"{PREFIX}idempotency:"
#: Sorted set by queue, of job ids that wait without a message, by the time since when nobody has seen one.
UNSEEN = f"{PREFIX}unseen:"
#: Sorted set of the ids of jobs with a deadline, by deadline.
DEADLINES = f"{PREFIX}deadlines"
#: Sorted set of the ids of jobs that killed their workers, by the time at which they were given up.
DEAD = f"{PREFIX}dead"
#: List of references of images that nobody needs any more.
DISCARDED = f"{PREFIX}discarded"
#: String with an expiry: which worker reconciles.
LEADER = f"{PREFIX}leader"
#: Hash of `queue|status|label` to the number of jobs that ended so.
TOTALS = f"{PREFIX}totals"
#: Hash of error code to the number of jobs that ended with it.
ERRORS = f"{PREFIX}errors"
#: Hash of counter name to number: commits dropped for an old fence, and the like.
COUNTERS = f"{PREFIX}counters"
#: Capped stream of the ids of ended jobs, newest last.
EVENTS = f"{PREFIX}events"
#: Published: ids of jobs and submissions that just ended, separated by spaces.
DONE = f"{PREFIX}done"
#: Hash of an API key's id to what is stored of it, as JSON.
API_KEYS = f"{PREFIX}api-keys"
#: Every counter of rate limits stands below it.
RATES = f"{PREFIX}rates"
#: Hash of worker id to its heartbeat as JSON.
WORKERS = f"{PREFIX}workers"
#: Sorted set of worker ids by the time at which their heartbeat counts no longer.
WORKERS_ALIVE = f"{PREFIX}workers-alive"
#: String with an expiry, one an image, where images wait in Redis.
IMAGE = f"{PREFIX}image:"
#: String with an expiry, one a job: its thumbnail in Base64.
THUMBNAIL = f"{PREFIX}thumbnail:"

#: The stream of ended jobs keeps about this many.
EVENTS_KEPT = 10_000
#: So many submissions of an owner are listed.
SUBMISSIONS_KEPT = 1_000
#: The rate of a submission is measured over one to two spans of so many milliseconds.
RATE_SPAN_MS = 5_000


def job(job_id: str) -> str:
    """Key of a job's record."""
    return JOB + job_id


def queued(queue: str) -> str:
    """Key of the jobs waiting in `queue`."""
    return QUEUED + queue


def running(queue: str) -> str:
    """Key of the leased jobs of `queue`."""
    return RUNNING + queue


def submission(submission_id: str) -> str:
    """Key of a submission's record."""
    return SUBMISSION + submission_id


def submission_jobs(submission_id: str) -> str:
    """Key of the ids of a submission's jobs."""
    return SUBMISSION_JOBS + submission_id


def submissions(owner: str) -> str:
    """Key of the ids of an owner's submissions."""
    return SUBMISSIONS + owner


def image(ref: str) -> str:
    """Key of a waiting image."""
    return IMAGE + ref


def thumbnail(job_id: str) -> str:
    """Key of a job's thumbnail."""
    return THUMBNAIL + job_id


def lua_table() -> str:
    """The keys as a Lua table `K`, which the scripts of the ledger begin with."""
    names = {name: value for name, value in globals().items() if name.isupper() and name != "PREFIX"}
    return "local K = {" + ", ".join(f"{name.lower()} = '{value}'" for name, value in names.items()) + "}\n"
