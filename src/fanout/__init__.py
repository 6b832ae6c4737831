"""Invoke an AWS Lambda function once per record, within its limits, with one outcome each."""
