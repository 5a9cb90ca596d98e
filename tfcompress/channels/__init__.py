"""Which channels of a model can be removed together, and where they lie: the dependency analysis."""

from tfcompress.channels.groups import Analysis, ChannelGroup, Slice, analyse, channel_groups

__all__ = ["Analysis", "ChannelGroup", "Slice", "analyse", "channel_groups"]
