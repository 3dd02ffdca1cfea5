"""All Redis keys and channels, and the size limits of lists."""

#: The prefix of every key, including Celery's.
PREFIX = "pawqueue:"

#: List per queue: its tickets, which Celery reads. Celery calls this key by the name of the queue.
TICKETS = PREFIX
#: Hash per job: its record.
JOB = f"{PREFIX}job:"
#: Sorted set per queue: ids of waiting jobs by time of acceptance.
QUEUED = f"{PREFIX}queued:"
#: Sorted set per queue: ids of running jobs by the end of their lease.
RUNNING = f"{PREFIX}running:"
#: Hash: size of the images of waiting jobs, by queue.
QUEUED_BYTES = f"{PREFIX}queued-bytes"
#: Hash per queue: number of waiting jobs by owner. Owners without waiting jobs are omitted.
OWNER_JOBS = f"{PREFIX}owner-jobs:"
#: Hash per queue: size of the images of waiting jobs, by owner.
OWNER_BYTES = f"{PREFIX}owner-bytes:"
#: Hash per hour, with expiry: number of jobs and rejected images that each owner sent.
OWNER_RECORDS = f"{PREFIX}owner-records:"
#: Hash per submission: its record, with the number of jobs by status.
SUBMISSION = f"{PREFIX}submission:"
#: List per submission: ids of its jobs in order of acceptance, including those of rejected images.
SUBMISSION_JOBS = f"{PREFIX}submission-jobs:"
#: List per submission: the numbers of its finished jobs in the order in which they finished. A job's number is its
#: place in the list of jobs, from 1.
SUBMISSION_FINISHED = f"{PREFIX}submission-finished:"
#: String per submission, with expiry: a bit per job, set if the job is in the list of finished jobs. It exists only for
#: submissions that processes of version 0.1 worked on.
SUBMISSION_LISTED = f"{PREFIX}submission-listed:"
#: Sorted set per owner: ids of the latest submissions by creation time.
SUBMISSIONS = f"{PREFIX}submissions:"
#: Sorted set per owner: ids of its submissions that are open or have no images, by the time at which they expire.
OPEN_SUBMISSIONS = f"{PREFIX}open-submissions:"
#: Hash per idempotency key, with expiry: fingerprint of the image and id of the job.
IDEMPOTENCY = f"{PREFIX}idempotency:"
#: Sorted set per queue: written by version 0.1, deleted by the next sweep.
UNSEEN = f"{PREFIX}unseen:"
#: Sorted set: ids of jobs with a deadline, by deadline.
DEADLINES = f"{PREFIX}deadlines"
#: Sorted set: the dead-letter list, ids of jobs that killed their workers, by time of failure.
DEAD = f"{PREFIX}dead"
#: List: references of images to delete.
DISCARDED = f"{PREFIX}discarded"
#: Sorted set: ids of submissions that are being purged, by the time of the last step.
PURGING = f"{PREFIX}purging"
#: String with expiry: id of the leader, the worker that recovers lost jobs.
LEADER = f"{PREFIX}leader"
#: Hash: number of finished jobs by `queue|status|label`.
TOTALS = f"{PREFIX}totals"
#: Hash: number of jobs that finished with an error, by error code.
ERRORS = f"{PREFIX}errors"
#: Hash: other counters, such as commits with an old fence.
COUNTERS = f"{PREFIX}counters"
#: Capped stream: ids of finished jobs, newest last.
EVENTS = f"{PREFIX}events"
#: Channel: ids of jobs and submissions that just finished, separated by spaces. After `CHANGED`, of those that changed
#: and have not finished.
DONE = f"{PREFIX}done"
CHANGED = "~"
#: String: the secret of this installation, in hexadecimal.
SECRET = f"{PREFIX}secret"
#: Hash: API keys as JSON, by id.
API_KEYS = f"{PREFIX}api-keys"
#: Prefix of the rate limit counters.
RATES = f"{PREFIX}rates"
#: Hash: heartbeats as JSON, by worker id.
WORKERS = f"{PREFIX}workers"
#: Sorted set: worker ids by the time at which their heartbeat expires.
WORKERS_ALIVE = f"{PREFIX}workers-alive"
#: Set: names of all models.
MODELS = f"{PREFIX}models"
#: Hash per model: its live version and the one before it, its revision, the change of the live version that has begun
#: (`next`) and the last one that ended (`last`), its shadow, and for each version a description and a checksum.
MODEL = f"{PREFIX}model:"
#: String: name of the default model, which answers jobs that name none.
DEFAULT_MODEL = f"{PREFIX}default-model"
#: Capped stream: changes of models, newest last.
MODEL_CHANGES = f"{PREFIX}model-changes"
#: Hash per model with a canary: what canary and live version did since it began, by side.
TRIAL = f"{PREFIX}trial:"
#: Hash per model and day, with expiry: number of jobs and errors, predict times, labels and confidences, by version.
MODEL_COUNTS = f"{PREFIX}model-counts:"
#: Hash: number of jobs and errors of all time, by model and version.
MODEL_TOTALS = f"{PREFIX}model-totals"
#: Hash per model and day, with expiry: number of right and of wrong predictions with feedback, by version.
FEEDBACK = f"{PREFIX}feedback:"
#: Hash: the same numbers of all time, by model and version.
FEEDBACK_TOTALS = f"{PREFIX}feedback-totals"
#: Hash per job: its image that is kept for review, with what is known about it.
REVIEW = f"{PREFIX}review:"
#: Sorted set per owner, and one for all (without a suffix): ids of jobs whose image is kept, in the order of keeping.
REVIEW_KEPT = f"{PREFIX}review-kept:"
#: Sorted set per owner, and one for all: those that wait for a label, by the time from which a reviewer may get them.
REVIEW_WAITING = f"{PREFIX}review-waiting:"
#: Hash per model and day, with expiry: by pair of versions, how often the live version and the shadow agreed, and with
#: feedback which of them was right.
SHADOW = f"{PREFIX}shadow:"
#: Hash: how often shadows agreed with live versions, of all time, by model and shadow.
SHADOW_TOTALS = f"{PREFIX}shadow-totals"
#: Capped stream per model, with expiry: jobs for which the live version and the shadow predicted different labels.
DISAGREEMENTS = f"{PREFIX}disagreements:"
#: String per image, with expiry: its bytes, if images are stored in Redis.
IMAGE = f"{PREFIX}image:"
#: String per job, with expiry: its thumbnail in Base64.
THUMBNAIL = f"{PREFIX}thumbnail:"
#: Hash per event that was not delivered yet: a copy of the record of its job or submission, and the state of its
#: delivery.
DELIVERY = f"{PREFIX}delivery:"
#: Sorted set per lane: ids of its waiting deliveries by the time of the next try. The deliveries of an owner to a
#: server are one lane, which delays no other.
LANE = f"{PREFIX}lane:"
#: Sorted set: lanes by the time from which a notifier may take deliveries of them.
LANES = f"{PREFIX}lanes"
#: Hash: number of failed tries in a row, by lane. Lanes without one are omitted.
LANE_FAILURES = f"{PREFIX}lane-failures"
#: Hash: until when a lane is paused because of them, by lane.
LANE_PAUSES = f"{PREFIX}lane-pauses"
#: Sorted set per owner: ids of its deliveries, waiting and dead, by the time of the event.
DELIVERIES = f"{PREFIX}deliveries:"
#: Sorted set: ids of dead deliveries by the time at which they died.
DEAD_DELIVERIES = f"{PREFIX}dead-deliveries"
#: Hash: number of deliveries by result.
DELIVERY_TOTALS = f"{PREFIX}delivery-totals"
#: Hash per owner: its secrets for webhooks.
WEBHOOK_SECRET = f"{PREFIX}webhook-secret:"
#: Hash per owner, with expiry: when an endpoint answered 410, by URL. Nothing is sent there.
GONE_ENDPOINTS = f"{PREFIX}gone-endpoints:"

#: A key with no value.
UNUSED = f"{PREFIX}unused"

#: The keys of one job and of one submission: purging it deletes them. Kept images have a function of their own.
JOB_KEYS = (JOB, THUMBNAIL)
SUBMISSION_KEYS = (SUBMISSION, SUBMISSION_JOBS, SUBMISSION_FINISHED, SUBMISSION_LISTED)

#: How long the numbers of an hour are kept.
OWNER_RECORDS_HOURS = 24
#: Approximate maximum length of the stream of finished jobs.
EVENTS_KEPT = 10_000
#: Maximum number of submissions listed per owner.
SUBMISSIONS_KEPT = 1_000
#: Maximum number of combinations of queue, status and label that are counted separately. Each is a time series.
TOTALS_KEPT = 5_000
#: Maximum number of models, and of versions of one. Each model is a time series in every metric about jobs.
MODELS_KEPT = 100
VERSIONS_KEPT = 200
#: Approximate maximum length of the stream of changes of models.
MODEL_CHANGES_KEPT = 10_000
#: How long the counts of a day are kept.
FEEDBACK_DAYS = 400
MODEL_COUNTS_DAYS = 90
#: Maximum number of labels that are counted separately for each version and day.
LABELS_KEPT = 100
#: Maximum number of fields of a day on which shadows were compared; each pair of versions has up to six.
SHADOW_COUNTS_KEPT = 600
#: Maximum number of disagreements that are kept per model, and for how long.
DISAGREEMENTS_KEPT = 1_000
DISAGREEMENTS_DAYS = 7
#: Maximum number of dead deliveries that are kept.
DEAD_DELIVERIES_KEPT = 10_000
#: Expiry of what belongs to deliveries, so that nothing stays if no notifier runs.
DELIVERY_DAYS = 60
#: After this many failed tries in a row a lane is paused, then for twice as long after each further one.
LANE_FAILURES_MAX = 10
LANE_PAUSE_MS = 15_000
LANE_PAUSE_MAX_MS = 300_000
#: A submission's rate is measured over a sliding window of one to two times this length.
RATE_SPAN_MS = 5_000


def job(job_id: str) -> str:
    """Key of a job's record."""
    return JOB + job_id


def queued(queue: str) -> str:
    """Key of the waiting jobs of a queue."""
    return QUEUED + queue


def running(queue: str) -> str:
    """Key of the running jobs of a queue."""
    return RUNNING + queue


def model(name: str) -> str:
    """Key of a model."""
    return MODEL + name


def owner_records(hour: int) -> str:
    """Key of the number of records by owner; `hour` counts from 1970."""
    return f"{OWNER_RECORDS}{hour}"


def submission(submission_id: str) -> str:
    """Key of a submission's record."""
    return SUBMISSION + submission_id


def submission_jobs(submission_id: str) -> str:
    """Key of the list of a submission's jobs."""
    return SUBMISSION_JOBS + submission_id


def submission_finished(submission_id: str) -> str:
    """Key of the list of a submission's finished jobs."""
    return SUBMISSION_FINISHED + submission_id


def submissions(owner: str) -> str:
    """Key of the list of an owner's submissions."""
    return SUBMISSIONS + owner


def image(ref: str) -> str:
    """Key of an image."""
    return IMAGE + ref


def thumbnail(job_id: str) -> str:
    """Key of a job's thumbnail."""
    return THUMBNAIL + job_id


def lua_table() -> str:
    """The constants of this module as the Lua table `K`, which is prepended to every script."""
    names = {name: value for name, value in globals().items() if name.isupper() and name != "PREFIX"}
    return "local K = {" + ", ".join(f"{name.lower()} = {_lua(value)}" for name, value in names.items()) + "}\n"


def _lua(value: object) -> str:
    return "{" + ", ".join(map(_lua, value)) + "}" if isinstance(value, tuple) else f"'{value}'"
