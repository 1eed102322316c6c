"""Git: reading trees and history, making commits, moving refs, and clone and push over HTTP.

Everything here is plain blocking code on bare repositories; handlers call it in threads. Left
out: who may do it, and large files beyond their pointers.
"""
