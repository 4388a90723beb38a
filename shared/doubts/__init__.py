"""Input checks: reasons to look at a case before its answer is trusted.

`find_doubts` takes a case, its prepared region and the predicted lesions, and returns one sentence
for each reason. It changes no answer; the containers print the sentences in their log.
`python -m tests.benchmarks.doubts` measures how often each check finds an injected fault.
"""
