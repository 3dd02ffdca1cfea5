"""Returning results: requests that wait for a job, and the streamed results of a submission.

Start with `waiters.py`.
"""
