import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** Refuses settings of new topics as hosted brokers do (KIP-108). The mode is the system property `test.policy`. */
public class TestPolicy implements CreateTopicPolicy {
    private static final long SEGMENT_BYTES_MIN = 50L * 1024 * 1024;
    private static final Set<String> HANDFUL = Set.of("cleanup.policy", "retention.ms", "min.compaction.lag.ms");

    private final String mode = System.getProperty("test.policy", "none");

    @Override
    public void configure(Map<String, ?> configs) {
    }

    @Override
    public void validate(RequestMetadata request) throws PolicyViolationException {
        Map<String, String> settings = request.configs() == null ? Map.of() : request.configs();
        switch (mode) {
            case "segments":
                String bytes = settings.get("segment.bytes");
                if (bytes != null && Long.parseLong(bytes) < SEGMENT_BYTES_MIN) {
                    throw new PolicyViolationException("segment.bytes is too small");
                }
                break;
            case "handful":
                if (!HANDFUL.containsAll(settings.keySet())) {
                    throw new PolicyViolationException("only a handful of settings");
                }
                break;
            case "everything":
                throw new PolicyViolationException("topics are ordered by ticket");
            default:
                break;
        }
    }

    @Override
    public void close() {
    }
}
