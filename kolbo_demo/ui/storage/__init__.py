"""Files of visitors: uploads, generations and batches, within quotas."""
