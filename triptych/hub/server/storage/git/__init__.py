"""Git: reading trees and history, making commits, moving refs.

Plain blocking code on bare repositories; handlers call it in threads. Left out: access rights,
clone and push over HTTP (`http/git_transport.py`), and large files beyond their pointers.
"""
